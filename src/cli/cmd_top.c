// SPDX-License-Identifier: Apache-2.0
/*
 * davit top
 *
 * The daemon tells the pids, /proc the rest. A process that ends meanwhile is left out.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/clock.h"
#include "util/fd.h"

struct process {
	long long pid, parent, inner, uid;
	char state;
	unsigned long long ticks, start; /* CPU time, start since boot, in clock ticks */
	json_object *command; /* words */
};

static long long status_number(const char *text, const char *key, bool last)
{
	const char *p = strstr(text, key), *end;

	if (!p)
		return -1;
	p += strlen(key);
	end = p + strcspn(p, "\n");
	if (last) {
		while (end > p && end[-1] != '\t' && end[-1] != ' ')
			end--;
		p = end;
	}
	return atoll(p);
}

static json_object *command_line(const char *folder, const char *name)
{
	char path[64];
	char *text CLEANUP_FREE = NULL;
	json_object *words = js_array();
	size_t size = 0;

	snprintf(path, sizeof(path), "%s/cmdline", folder);
	if (fd_read_file(AT_FDCWD, path, 1 << 20, &text, &size) == 0) {
		for (size_t at = 0; at < size; at += strlen(text + at) + 1)
			js_push_str(words, text + at);
	}
	if (!js_len(words))
		js_push_str(words, name);
	return words;
}

static bool look(long long pid, struct process *out)
{
	char folder[32], path[64], name[64] = "";
	char *stat CLEANUP_FREE = NULL;
	char *status CLEANUP_FREE = NULL;
	unsigned long long user, system;
	const char *p, *open;

	snprintf(folder, sizeof(folder), "/proc/%lld", pid);
	snprintf(path, sizeof(path), "%s/stat", folder);
	if (fd_read_file(AT_FDCWD, path, 65536, &stat, NULL) < 0)
		return false;
	snprintf(path, sizeof(path), "%s/status", folder);
	if (fd_read_file(AT_FDCWD, path, 65536, &status, NULL) < 0)
		return false;
	p = strrchr(stat, ')'); /* the name may hold anything */
	open = strchr(stat, '(');
	if (!p || !open ||
	    sscanf(p + 1,
		   " %c %lld %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
		   &out->state, &out->parent, &user, &system, &out->start) != 5)
		return false;
	snprintf(name, sizeof(name), "[%.*s]", (int)(p - open - 1), open + 1);
	out->pid = pid;
	out->ticks = user + system;
	out->uid = status_number(status, "\nUid:\t", false);
	out->inner = status_number(status, "\nNSpid:", true);
	out->command = command_line(folder, name);
	return true;
}

static void clock_text(long long seconds, char *buf, size_t size)
{
	if (seconds >= 86400)
		snprintf(buf, size, "%lldd%02lldh", seconds / 86400, seconds / 3600 % 24);
	else if (seconds >= 3600)
		snprintf(buf, size, "%lldh%02lldm", seconds / 3600, seconds / 60 % 60);
	else
		snprintf(buf, size, "%lldm%02llds", seconds / 60, seconds % 60);
}

static json_object *row(const struct process *p, const char *exec_id, double uptime)
{
	double hz = (double)sysconf(_SC_CLK_TCK);
	json_object *o = js_object();
	char state[2] = { p->state, '\0' };

	js_set_int(o, "pid", p->inner);
	js_set_int(o, "host_pid", p->pid);
	js_set_int(o, "host_ppid", p->parent);
	js_set_int(o, "uid", p->uid);
	js_set_str(o, "state", state);
	js_set_int(o, "elapsed_ns", (int64_t)((uptime - (double)p->start / hz) * 1e9));
	js_set_int(o, "cpu_ns", (int64_t)((double)p->ticks / hz * 1e9));
	js_set_str(o, "exec_id", *exec_id ? exec_id : NULL);
	js_set(o, "command", p->command);
	return o;
}

static void print_table(json_object *rows)
{
	static const char *const titles[] = { "PID",  "HPID", "UID",	 "STATE", "ELAPSED",
					      "TIME", "EXEC", "COMMAND", NULL };
	struct table *t = table_new(titles);
	char text[32];

	for (size_t i = 0; i < js_len(rows); i++) {
		json_object *o = js_at(rows, i);
		char *command = output_command(js_get(o, "command"), 0);

		table_cellf(t, "%lld", (long long)js_int(o, "pid", 0));
		table_cellf(t, "%lld", (long long)js_int(o, "host_pid", 0));
		table_cellf(t, "%lld", (long long)js_int(o, "uid", 0));
		table_cell(t, js_str(o, "state"));
		clock_text(js_int(o, "elapsed_ns", 0) / CLOCK_NS_PER_SEC, text, sizeof(text));
		table_cell(t, text);
		clock_text(js_int(o, "cpu_ns", 0) / CLOCK_NS_PER_SEC, text, sizeof(text));
		table_cell(t, text);
		table_cell(t, *js_str(o, "exec_id") ? js_str(o, "exec_id") : "-");
		table_cell(t, command);
		free(command);
	}
	table_print(t);
	table_free(t);
}

static int top(struct cli *cli)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *rows CLEANUP_JSON = js_array();
	char *text CLEANUP_FREE = NULL;
	json_object *list;
	struct fault f = { 0 };
	double uptime = 0;
	int json;

	json = output_format(cli, &f);
	if (json < 0)
		return cli_fail(&f, NULL, "top");
	if (cli_call(cli, "tasks.list_pids", cli_params(cli->args[0], NULL), &answer, &f) < 0)
		return cli_fail(&f, NULL, "cannot list the processes of %s", cli->args[0]);
	if (fd_read_file(AT_FDCWD, "/proc/uptime", 128, &text, NULL) == 0)
		uptime = strtod(text, NULL);
	list = js_get(answer, "processes");
	for (size_t i = 0; i < js_len(list); i++) {
		struct process p;

		if (look(js_int(js_at(list, i), "pid", 0), &p))
			js_push(rows, row(&p, js_str(js_at(list, i), "exec_id"), uptime));
	}
	if (json)
		output_json(rows);
	else
		print_table(rows);
	return 0;
}

static const struct cli_option options[] = {
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_top = {
	.name = "top",
	.summary = "List the processes of a container",
	.usage = "NAME",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = top,
};
