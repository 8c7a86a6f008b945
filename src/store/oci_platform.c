// SPDX-License-Identifier: Apache-2.0
/*
 * Platforms: what a machine runs
 *
 * Names are brought to Go's spelling (GOOS, GOARCH) when they are read, so that comparing them is
 * strcmp. A variant that says nothing (v8 of arm64, v7 of arm, v1 of amd64) becomes none. What else
 * runs on a wanted platform is in one table, best first, as containerd's platforms package has it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "store/oci_internal.h"
#include "util/cleanup.h"

static const struct {
	const char *from, *to, *variant;
} architectures[] = {
	{ "x86_64", "amd64", NULL },
	{ "x86-64", "amd64", NULL },
	{ "aarch64", "arm64", NULL },
	{ "aarch64_be", "arm64be", NULL },
	{ "i386", "386", NULL },
	{ "i486", "386", NULL },
	{ "i586", "386", NULL },
	{ "i686", "386", NULL },
	{ "armhf", "arm", "v7" },
	{ "armv7l", "arm", "v7" },
	{ "armv8l", "arm", "v7" },
	{ "armel", "arm", "v6" },
	{ "armv6l", "arm", "v6" },
	{ "armv5tel", "arm", "v5" },
	{ "loongarch64", "loong64", NULL },
	{ "mips64el", "mips64le", NULL },
	{ "mipsel", "mipsle", NULL },
};

/* What a platform without a variant means, which is also written without one. */
static const char *default_variant(const char *architecture)
{
	if (!strcmp(architecture, "arm64"))
		return "v8";
	if (!strcmp(architecture, "arm"))
		return "v7";
	if (!strcmp(architecture, "amd64"))
		return "v1";
	return "";
}

static int set(char **to, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static void lower(char *p)
{
	for (; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
}

int oci_platform_normalise(struct oci_platform *p, struct fault *f)
{
	int r = 0;

	lower(p->os);
	lower(p->architecture);
	lower(p->variant);
	if (!strcmp(p->os, "macos"))
		r = set(&p->os, "darwin");
	for (size_t i = 0; !r && i < ARRAY_SIZE(architectures); i++) {
		if (strcmp(p->architecture, architectures[i].from))
			continue;
		r = set(&p->architecture, architectures[i].to);
		if (!r && architectures[i].variant && !*p->variant)
			r = set(&p->variant, architectures[i].variant);
		break;
	}
	/* "8" and "7" are also seen */
	if (!r && p->variant[0] >= '0' && p->variant[0] <= '9' && !p->variant[1]) {
		char text[] = { 'v', p->variant[0], '\0' };

		r = set(&p->variant, text);
	}
	if (!r && !strcmp(p->variant, default_variant(p->architecture)))
		r = set(&p->variant, "");
	return r ? oci_no_memory(f) : 0;
}

void oci_platform_clear(struct oci_platform *p)
{
	free(p->os);
	free(p->architecture);
	free(p->variant);
	memset(p, 0, sizeof(*p));
}

void oci_platform_text(const struct oci_platform *p, char *out, size_t size)
{
	snprintf(out, size, "%s/%s%s%s", *p->os ? p->os : "unknown",
		 *p->architecture ? p->architecture : "unknown", *p->variant ? "/" : "",
		 p->variant);
}

static bool valid_part(const char *p, size_t n)
{
	if (!n || n > 64 || strchr("_-.", p[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(p[i] >= 'a' && p[i] <= 'z') && !(p[i] >= 'A' && p[i] <= 'Z') &&
		    !(p[i] >= '0' && p[i] <= '9') && !strchr("_-.", p[i]))
			return false;
	return true;
}

int oci_platform_parse(struct oci_platform *p, const char *text, struct fault *f)
{
	char **parts[] = { &p->os, &p->architecture, &p->variant };
	struct utsname host;
	char own[sizeof(host.machine) + 8];
	size_t i = 0;

	memset(p, 0, sizeof(*p));
	if (!text || !*text) {
		uname(&host);
		snprintf(own, sizeof(own), "linux/%s", host.machine);
		text = own;
	}
	for (const char *at = text; i < ARRAY_SIZE(parts); i++) {
		size_t n = strcspn(at, "/");

		if (!valid_part(at, n))
			break;
		*parts[i] = strndup(at, n);
		if (!*parts[i]) {
			oci_platform_clear(p);
			return oci_no_memory(f);
		}
		at += n;
		if (!*at) {
			i++;
			text = NULL; /* all of it was read */
			break;
		}
		at++;
	}
	if (text || i < 2) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "'%.128s' is not a platform; one is OS/ARCHITECTURE or "
			  "OS/ARCHITECTURE/VARIANT, such as linux/amd64",
			  text ? text : *parts[0]);
		fault_arg(f, "platform");
		oci_platform_clear(p);
		return -EINVAL;
	}
	if (!p->variant)
		p->variant = strdup("");
	i = p->variant ? 0 : 1;
	if (i || oci_platform_normalise(p, f) < 0) {
		oci_platform_clear(p);
		return oci_no_memory(f);
	}
	return 0;
}

/* The number behind the v, or what the architecture has without one; -1 for neither. */
static int variant_number(const struct oci_platform *p)
{
	const char *v = *p->variant ? p->variant : default_variant(p->architecture);

	return v[0] == 'v' && v[1] >= '1' && v[1] <= '9' && !v[2] ? v[1] - '0' : -1;
}

int oci_platform_match(const struct oci_platform *wanted, const struct oci_platform *have)
{
	int most, number = variant_number(have);

	if (strcmp(wanted->os, have->os))
		return 0;
	if (!strcmp(wanted->architecture, have->architecture)) {
		if (!strcmp(wanted->variant, have->variant))
			return 1000;
		most = variant_number(wanted);
		/* each version runs what was made for those before it */
		if (most > 0 && number > 0)
			return number < most ? 900 + number : 0;
		return 0;
	}
	/* 32 bits on the same processor; only those that every one of the 64-bit ones has */
	if (!strcmp(wanted->architecture, "amd64") && !strcmp(have->architecture, "386"))
		return *have->variant ? 0 : 100;
	if (!strcmp(wanted->architecture, "arm64") && !strcmp(have->architecture, "arm") &&
	    number > 0 && number <= 8)
		return 100 + number;
	return 0;
}
