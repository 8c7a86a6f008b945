// SPDX-License-Identifier: Apache-2.0
/*
 * davit events
 *
 * Follows the daemon's journal. Each event carries its number; when the connection breaks because
 * the daemon is restarted, the subscription is made anew from the last number seen, so that nothing
 * is missed or shown twice.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/units.h"

struct stream {
	struct cli *cli;
	bool json;
	int64_t since; /* -1: from now on */
	char *journal;
};

static int subscribe(struct stream *s, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object();
	const char *filter;
	size_t at = 0;
	int r;

	while ((filter = args_each(s->cli, "filter", &at)))
		js_push_str(js_array_at(p, "filters"), filter);
	if (s->since >= 0)
		js_set_int(p, "since", s->since);
	if (s->journal)
		js_set_str(p, "journal", s->journal);
	/* Without a namespace all are seen; one that was named, even the default one, narrows. */
	js_set_str(p, "namespace", s->cli->ns_given ? s->cli->ns : NULL);
	r = cli_call(s->cli, "events.subscribe", p, &answer, f);
	if (r < 0)
		return r;
	free(s->journal);
	s->journal = mem_strdup(js_str(answer, "journal"));
	/* From here on numbers are this journal's, also when nothing was asked for before. */
	if (s->since < 0)
		s->since = js_int(answer, "last_seq", 0);
	return 0;
}

static void show_gap(const struct stream *s, json_object *gap)
{
	json_object *o CLEANUP_JSON = js_object();

	if (s->json) {
		js_set(o, "gap", json_object_get(gap));
		output_json_line(o);
	} else {
		cli_warn("events %lld to %lld are not in the journal any more",
			 (long long)js_int(gap, "from", 0), (long long)js_int(gap, "to", 0));
	}
}

static void show(struct stream *s, const struct cli_reply *reply)
{
	json_object *e = js_at(reply->result, js_len(reply->result) - 1);
	char time[64];

	if (!e)
		return;
	if (strcmp(reply->method, "gap") == 0) {
		show_gap(s, e);
		s->since = js_int(e, "to", s->since);
	} else {
		s->since = js_int(e, "seq", s->since);
		if (s->json) {
			json_object_object_del(e, "subscription");
			output_json_line(e);
		} else {
			json_object *payload = js_get(e, "event");

			output_time(js_int(e, "timestamp", 0), time, sizeof(time));
			printf("%s %lld %s %s %s\n", time, (long long)s->since,
			       js_str(e, "namespace"), js_str(e, "topic"),
			       json_object_to_json_string_ext(
				       payload,
				       JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		}
	}
	fflush(stdout);
}

static int follow(struct stream *s, struct fault *f)
{
	int r = subscribe(s, f);

	while (r >= 0 && !ferror(stdout)) {
		struct cli_reply *reply;

		r = cli_recv(s->cli, -1, &reply, f);
		if (r == -EAGAIN) {
			r = 0;
			continue;
		}
		if (r < 0 && f->err == EPIPE) {
			r = cli_reconnect(s->cli, f);
			if (r == 0)
				r = subscribe(s, f);
			continue;
		}
		if (r < 0)
			break;
		if (reply->notification)
			show(s, reply);
		cli_reply_free(reply);
	}
	return r;
}

static int events(struct cli *cli)
{
	const char *since = args_get(cli, "since");
	struct stream s = { .cli = cli, .since = -1 };
	struct fault f = { 0 };
	int r;

	r = output_format(cli, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "events");
	s.json = r;
	if (since && units_int(since, 0, INT64_MAX, &s.since, &f) < 0)
		return cli_fail(&f, "it is an event's number; 0 is the beginning of the journal",
				"events: --since");
	s.journal = mem_strdup(args_get(cli, "journal"));
	r = follow(&s, &f);
	free(s.journal);
	return r < 0 ? cli_fail(&f, NULL, "cannot follow the events") : 0;
}

static const struct cli_option options[] = {
	{ .name = "since",
	  .argument = "SEQ",
	  .doc = "first show all after this number that are still there; 0: all" },
	{ .name = "journal",
	  .argument = "ID",
	  .doc = "the journal that SEQ is a number of: another one begins with a gap" },
	{ .name = "filter",
	  .letter = 'f',
	  .argument = "FILTER",
	  .doc = "only those that match, as topic==/tasks/exit, event.container_id==web; more than one: any of them",
	  .flags = CLI_MULTI },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_events = {
	.name = "events",
	.summary = "Follow what happens",
	.details =
		"A line is TIME NUMBER NAMESPACE TOPIC EVENT; with --format json it is one object. All namespaces are shown\n"
		"unless one is named by --namespace.\n",
	.options = options,
	.max_args = 0,
	.run = events,
};
