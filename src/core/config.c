// SPDX-License-Identifier: Apache-2.0
/*
 * The options of `davit serve`
 *
 * A table has a row an option: its name, the variable that stands in for it, its default and where
 * its text goes. Numbers and paths are read from the texts afterwards, so that a mistake in the
 * environment is reported as one on the command line is. Everything in the result is malloc'ed and
 * never NULL. Runs before the guardian forks, so it uses nothing but libc.
 */
#include "core/config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/limits.h"

#ifndef DAVIT_CRIU_DEFAULT
#define DAVIT_CRIU_DEFAULT "criu"
#endif

enum {
	OPT_ROOT,
	OPT_STATE,
	OPT_SOCKET,
	OPT_GROUP,
	OPT_CRIU,
	OPT_CGROUP_PARENT,
	OPT_JOURNAL_SIZE,
	OPT_CHECKPOINT_BUFFER,
	OPT_METRICS,
	OPT_LOG_LEVEL,
	OPT_NAMESPACE, /* of the command line's other commands: taken and not used */
	OPT_COUNT,
};

static const struct config_option {
	const char *name, *env, *dflt;
} options[OPT_COUNT] = {
	[OPT_ROOT] = { "root", "DAVIT_ROOT", CONFIG_ROOT },
	[OPT_STATE] = { "state", "DAVIT_STATE", CONFIG_STATE },
	[OPT_SOCKET] = { "socket", "DAVIT_SOCKET", "" },
	[OPT_GROUP] = { "group", "DAVIT_GROUP", "" },
	[OPT_CRIU] = { "criu", "DAVIT_CRIU", DAVIT_CRIU_DEFAULT },
	[OPT_CGROUP_PARENT] = { "cgroup-parent", "DAVIT_CGROUP_PARENT", "/davit" },
	[OPT_JOURNAL_SIZE] = { "journal-size", "DAVIT_JOURNAL_SIZE", "64m" },
	[OPT_CHECKPOINT_BUFFER] = { "checkpoint-buffer", "DAVIT_CHECKPOINT_BUFFER", "256m" },
	[OPT_METRICS] = { "metrics", "DAVIT_METRICS", "" },
	[OPT_LOG_LEVEL] = { "log-level", "DAVIT_LOG_LEVEL", "info" },
	[OPT_NAMESPACE] = { "namespace", "DAVIT_NAMESPACE", "default" },
};

static const char usage[] =
	"Usage: davit [--log-level LEVEL] serve [OPTION]...\n"
	"Runs the daemon in the foreground: a guardian that keeps the socket and the reactor that does the work.\n"
	"\n"
	"  --root DIR              what survives a reboot (DAVIT_ROOT, " CONFIG_ROOT ")\n"
	"  --state DIR             what lives as long as the boot (DAVIT_STATE, " CONFIG_STATE ")\n"
	"  --socket PATH           where to listen (DAVIT_SOCKET, STATE/" CONFIG_SOCKET_NAME ")\n"
	"  --group GROUP           members may use the socket beside root (DAVIT_GROUP, nobody)\n"
	"  --criu PATH             the criu program (DAVIT_CRIU, " DAVIT_CRIU_DEFAULT ")\n"
	"  --cgroup-parent PATH    containers' cgroups go below it (DAVIT_CGROUP_PARENT, /davit)\n"
	"  --journal-size SIZE     events kept for replay (DAVIT_JOURNAL_SIZE, 64m)\n"
	"  --checkpoint-buffer SIZE  memory for pages under way, of all together (DAVIT_CHECKPOINT_BUFFER, 256m)\n"
	"  --log-level LEVEL       error, warn, info or debug (DAVIT_LOG_LEVEL, info)\n"
	"  --help                  this text\n"
	"\n"
	"SIGTERM and SIGINT end the daemon; containers run on and the next start takes them over.\n"
	"SIGHUP reads the log level from STATE/log-level, or returns to the one given here.\n";

const char *config_usage(void)
{
	return usage;
}

/*
 * The option that argv[*i] names; *value is its text and *i stands on the last word used. -1: none
 * such, -2: no value.
 */
static int option_read(int argc, char **argv, int *i, const char **value)
{
	const char *arg = argv[*i];

	if (strncmp(arg, "--", 2))
		return -1;
	arg += 2;
	for (int o = 0; o < OPT_COUNT; o++) {
		size_t n = strlen(options[o].name);

		if (strncmp(arg, options[o].name, n))
			continue;
		if (arg[n] == '=') {
			*value = arg + n + 1;
			return o;
		}
		if (arg[n])
			continue;
		if (*i + 1 >= argc)
			return -2;
		*value = argv[++*i];
		return o;
	}
	return -1;
}

bool config_is_serve(int argc, char **argv, int *index)
{
	for (int i = 1; i < argc; i++) {
		const char *value;

		if (argv[i][0] != '-') {
			*index = i;
			return !strcmp(argv[i], "serve");
		}
		if (!strcmp(argv[i], "-n")) /* short for --namespace */
			i++;
		else if (option_read(argc, argv, &i, &value) == -2)
			return false;
	}
	return false;
}

int config_size(const char *text, uint64_t *bytes)
{
	unsigned long long n;
	unsigned shift = 0;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	switch (*end) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	case 't':
	case 'T':
		shift = 40;
		break;
	}
	end += shift != 0;
	if (shift && *end == 'i')
		end++;
	if (*end == 'b' || *end == 'B')
		end++;
	if (*end || n > (UINT64_MAX >> 1 >> shift))
		return -EINVAL;
	*bytes = n << shift;
	return 0;
}

static int bad(struct fault *f, int option, const char *text, const char *why)
{
	int r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "--%s (%s) '%s': %s", options[option].name,
			  options[option].env, text, why);

	fault_arg(f, options[option].name);
	return r;
}

/* malloc'ed absolute form without a slash at its end. */
static int path_read(struct fault *f, int option, const char *text, char **out)
{
	CLEANUP_FREE char *cwd = NULL;
	size_t n;

	if (!text[0])
		return bad(f, option, text, "a path is needed");
	if (strlen(text) >= PATH_MAX)
		return bad(f, option, text, "the path is too long");
	if (text[0] == '/') {
		*out = strdup(text);
	} else {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return fault_sys(f, errno, "getcwd", NULL);
		if (asprintf(out, "%s/%s", strcmp(cwd, "/") ? cwd : "", text) < 0)
			*out = NULL;
	}
	if (!*out)
		return -ENOMEM;
	n = strlen(*out);
	while (n > 1 && (*out)[n - 1] == '/')
		(*out)[--n] = 0;
	return 0;
}

static int size_read(struct fault *f, int option, const char *text, uint64_t min, uint64_t *out)
{
	if (config_size(text, out) < 0)
		return bad(f, option, text, "not a size; say for example 64m");
	if (*out < min)
		return bad(f, option, text, "too small, at least 1m is needed");
	return 0;
}

static bool cgroup_path_ok(const char *p)
{
	if (p[0] != '/')
		return false;
	for (const char *part = p; part && *part; part = strchr(part + 1, '/'))
		if (!strncmp(part, "/..", 3) && (part[3] == '/' || !part[3]))
			return false;
	return true;
}

static int take_values(struct config_start *out, const char *const *v, struct fault *f)
{
	struct davit_config *c = &out->config;
	int r;

	if (log_level_parse(v[OPT_LOG_LEVEL], &out->log_level) < 0)
		return bad(f, OPT_LOG_LEVEL, v[OPT_LOG_LEVEL],
			   "error, warn, info or debug is needed");
	r = path_read(f, OPT_ROOT, v[OPT_ROOT], &c->root);
	if (r < 0)
		return r;
	r = path_read(f, OPT_STATE, v[OPT_STATE], &c->state);
	if (r < 0)
		return r;
	if (v[OPT_SOCKET][0]) {
		r = path_read(f, OPT_SOCKET, v[OPT_SOCKET], &c->socket);
		if (r < 0)
			return r;
	} else if (asprintf(&c->socket, "%s/%s", c->state, CONFIG_SOCKET_NAME) < 0) {
		c->socket = NULL;
		return -ENOMEM;
	}
	if (!v[OPT_CRIU][0])
		return bad(f, OPT_CRIU, "", "a program is needed");
	if (!cgroup_path_ok(v[OPT_CGROUP_PARENT]))
		return bad(f, OPT_CGROUP_PARENT, v[OPT_CGROUP_PARENT],
			   "must begin with '/' and have no '..'");
	if (v[OPT_METRICS][0])
		return bad(f, OPT_METRICS, v[OPT_METRICS],
			   "this version has no metrics page; server.stats has the numbers");
	r = size_read(f, OPT_JOURNAL_SIZE, v[OPT_JOURNAL_SIZE], LIMIT_JOURNAL_BYTES_MIN,
		      &c->journal_size);
	if (r < 0)
		return r;
	r = size_read(f, OPT_CHECKPOINT_BUFFER, v[OPT_CHECKPOINT_BUFFER], 1u << 20,
		      &c->checkpoint_buffer);
	if (r < 0)
		return r;
	c->group = strdup(v[OPT_GROUP]);
	c->criu = strdup(v[OPT_CRIU]);
	c->cgroup_parent = strdup(v[OPT_CGROUP_PARENT]);
	c->metrics = strdup(v[OPT_METRICS]);
	return c->group && c->criu && c->cgroup_parent && c->metrics ? 0 : -ENOMEM;
}

int config_parse(struct config_start *out, int argc, char **argv, int index, struct fault *f)
{
	const char *values[OPT_COUNT];
	int r;

	memset(out, 0, sizeof(*out));
	for (int o = 0; o < OPT_COUNT; o++) {
		const char *env = getenv(options[o].env);

		values[o] = env && env[0] ? env : options[o].dflt;
	}
	for (int i = 1; i < argc; i++) {
		const char *value = NULL;
		int o;

		if (i == index)
			continue;
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			out->help = true;
			return 0;
		}
		if (!strcmp(argv[i], "-n") && i + 1 < index) {
			i++;
			continue;
		}
		o = option_read(argc, argv, &i, &value);
		if (o == -2)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s needs a value", argv[i]);
		if (o < 0)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "davit serve does not know '%s'; see davit serve --help",
					 argv[i]);
		values[o] = value;
	}
	r = take_values(out, values, f);
	if (r == -ENOMEM)
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "reading the options");
	return r;
}

void config_clear(struct config_start *s)
{
	struct davit_config *c = &s->config;

	free(c->root);
	free(c->state);
	free(c->socket);
	free(c->group);
	free(c->criu);
	free(c->cgroup_parent);
	free(c->metrics);
	memset(c, 0, sizeof(*c));
}
