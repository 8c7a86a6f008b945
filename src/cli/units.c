// SPDX-License-Identifier: Apache-2.0
/*
 * Numbers as people write them
 *
 * Nothing is rounded in silence to something else than was asked for: what does not parse to its
 * end, or does not fit, is an error that shows the text.
 */
#include "cli/units.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "util/cleanup.h"

int units_int(const char *text, int64_t min, int64_t max, int64_t *value, struct fault *f)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (!*text || isspace((unsigned char)*text) || *end)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is not a whole number",
				 text);
	if (errno || v < min || v > max)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is not between %lld and %lld",
				 text, (long long)min, (long long)max);
	*value = v;
	return 0;
}

int units_size(const char *text, int64_t *bytes, struct fault *f)
{
	static const char letters[] = "bkmgtp";
	const char *unit;
	double v, factor = 1;
	char *end;

	v = strtod(text, &end);
	if (end == text || !isdigit((unsigned char)*text) || text[1] == 'x' || text[1] == 'X')
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\" is not a size such as 64m or 1.5g", text);
	if (*end) {
		unit = strchr(letters, tolower((unsigned char)*end));
		if (!unit)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "\"%s\" has an unknown unit; use b, k, m, g or t", text);
		factor = ldexp(1, 10 * (int)(unit - letters));
		end++;
		if (unit != letters && tolower((unsigned char)*end) == 'i')
			end++;
		if (unit != letters && tolower((unsigned char)*end) == 'b')
			end++;
		if (*end)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "\"%s\" is not a size such as 64m or 1.5g", text);
	}
	v *= factor;
	if (!(v < 9223372036854775808.0))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is too large", text);
	*bytes = (int64_t)v;
	return 0;
}

int units_cpus(const char *text, int64_t *quota, struct fault *f)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(isdigit((unsigned char)*text) || *text == '.'))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\" is not a number of CPUs such as 1.5", text);
	if (!(v >= 0.01 && v <= 1e6))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s CPUs: the least is 0.01", text);
	*quota = (int64_t)(v * UNITS_CPU_PERIOD + 0.5);
	return 0;
}

static int signal_by_name(const char *name)
{
	char *end;
	long n;

	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		const char *abbrev = sigabbrev_np(sig);

		if (abbrev && strcasecmp(abbrev, name) == 0)
			return sig;
	}
	if (strncasecmp(name, "RTMIN", 5) == 0) {
		n = name[5] == '+' ? strtol(name + 6, &end, 10) : 0;
		if (!name[5] ||
		    (name[5] == '+' && name[6] && !*end && n >= 0 && n <= SIGRTMAX - SIGRTMIN))
			return SIGRTMIN + (int)n;
	} else if (strncasecmp(name, "RTMAX", 5) == 0) {
		n = name[5] == '-' ? strtol(name + 6, &end, 10) : 0;
		if (!name[5] ||
		    (name[5] == '-' && name[6] && !*end && n >= 0 && n <= SIGRTMAX - SIGRTMIN))
			return SIGRTMAX - (int)n;
	} else if (strcasecmp(name, "CLD") == 0) {
		return SIGCHLD;
	} else if (strcasecmp(name, "IOT") == 0) {
		return SIGABRT;
	}
	return -1;
}

int units_signal(const char *text, int *sig, struct fault *f)
{
	int64_t n = 0;

	if (isdigit((unsigned char)*text)) {
		if (units_int(text, 1, SIGRTMAX, &n, f) < 0) {
			fault_prefix(f, "signal");
			return -EINVAL;
		}
		*sig = (int)n;
		return 0;
	}
	*sig = signal_by_name(text);
	if (*sig < 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "there is no signal \"%s\"", text);
	return 0;
}

const char *units_signal_name(int sig, char *buf)
{
	const char *abbrev = sig < SIGRTMIN ? sigabbrev_np(sig) : NULL;

	if (abbrev)
		snprintf(buf, 16, "SIG%s", abbrev);
	else if (sig >= SIGRTMIN && sig <= SIGRTMAX)
		snprintf(buf, 16, "SIGRTMIN+%d", sig - SIGRTMIN);
	else
		snprintf(buf, 16, "%d", sig);
	return buf;
}

static const struct {
	const char *name;
	int resource;
} rlimits[] = {
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

bool units_rlimit_at(unsigned i, const char **name, int *resource)
{
	if (i >= ARRAY_SIZE(rlimits))
		return false;
	*name = rlimits[i].name;
	*resource = rlimits[i].resource;
	return true;
}

static int limit(const char *text, size_t n, uint64_t *value)
{
	char copy[24];
	char *end;

	if (n == 0 || n >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (strcmp(copy, "-1") == 0 || strcmp(copy, "unlimited") == 0) {
		*value = UINT64_MAX;
		return 0;
	}
	errno = 0;
	*value = strtoull(copy, &end, 10);
	return !isdigit((unsigned char)*copy) || *end || errno ? -EINVAL : 0;
}

int units_ulimit(const char *text, const char **name, uint64_t *soft, uint64_t *hard,
		 struct fault *f)
{
	size_t n = strcspn(text, "="), first;
	const char *value = text + n + 1;

	*name = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(rlimits); i++) {
		const char *plain = rlimits[i].name + strlen("RLIMIT_");

		if ((strncasecmp(text, plain, n) == 0 && !plain[n]) ||
		    (strncasecmp(text, rlimits[i].name, n) == 0 && !rlimits[i].name[n]))
			*name = rlimits[i].name;
	}
	if (!text[n] || !*name)
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"\"%s\" is not a limit such as nofile=1024:2048 (see getrlimit(2) for the names)",
			text);
	first = strcspn(value, ":");
	if (limit(value, first, soft) < 0 ||
	    (value[first] ? limit(value + first + 1, strlen(value + first + 1), hard)
			  : limit(value, first, hard)) < 0)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\": the limits are numbers, -1 or unlimited", text);
	if (*soft > *hard)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\": the soft limit is above the hard one", text);
	return 0;
}
