// SPDX-License-Identifier: Apache-2.0
#include "ipc/signame.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#include "util/cleanup.h"

/* Other names that signal(7) lists. */
static const struct {
	const char *name;
	int sig;
} aliases[] = {
	{ "IOT", SIGABRT },
	{ "CLD", SIGCHLD },
	{ "IO", SIGIO },
};

/* Decimal digits alone, 0 to 99; else -1. */
static int small_number(const char *p)
{
	if (!isdigit((unsigned char)p[0]))
		return -1;
	if (!p[1])
		return p[0] - '0';
	if (!isdigit((unsigned char)p[1]) || p[2])
		return -1;
	return (p[0] - '0') * 10 + (p[1] - '0');
}

static int realtime(const char *p)
{
	int base, n, sign = 0;

	if (!strncasecmp(p, "RTMIN", 5)) {
		base = SIGRTMIN;
		sign = 1;
	} else if (!strncasecmp(p, "RTMAX", 5)) {
		base = SIGRTMAX;
		sign = -1;
	} else {
		return 0;
	}
	p += 5;
	if (!*p)
		return base;
	if (*p != (sign > 0 ? '+' : '-'))
		return 0;
	n = small_number(p + 1);
	if (n < 0)
		return 0;
	n = base + sign * n;
	return n >= SIGRTMIN && n <= SIGRTMAX ? n : 0;
}

int signal_by_name(const char *name, size_t size)
{
	char text[16], *p = text;
	int n;

	if (size >= sizeof(text) || memchr(name, '\0', size))
		return 0;
	memcpy(text, name, size);
	text[size] = '\0';
	n = small_number(p);
	if (n >= 0)
		return n <= 64 ? n : 0;
	if (!strncasecmp(p, "SIG", 3))
		p += 3;
	for (int sig = 1; sig < 32; sig++) {
		const char *have = sigabbrev_np(sig);

		if (have && !strcasecmp(have, p))
			return sig;
	}
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (!strcasecmp(aliases[i].name, p))
			return aliases[i].sig;
	return realtime(p);
}
