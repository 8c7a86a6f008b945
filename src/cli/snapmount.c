// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts of snapshots as commands that can be typed
 *
 * An overlay whose options would not fit as they are is mounted by a subshell that goes to the folder
 * of its layers (cli/overlay.h). The target, whose meaning that must not change, is absolute then. What
 * mount(2) would cut even so is not printed at all.
 */
#include "cli/snapmount.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "cli/overlay.h"

static char *join(json_object *options, const char *folder)
{
	char *text = mem_strdup("");

	for (size_t i = 0; i < js_len(options); i++) {
		char *one CLEANUP_FREE = overlay_relative(json_object_get_string(js_at(options, i)),
							  folder);
		char *longer = mem_printf("%s%s%s", text, i ? "," : "", one);

		free(text);
		text = longer;
	}
	return text;
}

/* Word by word quoted where that is needed. */
static void print_word(const char *word)
{
	bool plain = *word;

	for (const char *p = word; *p; p++)
		plain &=
			strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,+@%-",
			       *p) != NULL;
	if (plain) {
		fputs(word, stdout);
		return;
	}
	putchar('\'');
	for (; *word; word++) {
		if (*word == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*word);
	}
	putchar('\'');
}

static void print_command(json_object *m, const char *options, const char *at)
{
	/* mount(8) knows binds by their option. */
	if (strcmp(js_str(m, "type"), "bind") == 0) {
		fputs("mount ", stdout);
	} else {
		fputs("mount -t ", stdout);
		print_word(js_str(m, "type"));
		putchar(' ');
	}
	if (*options) {
		fputs("-o ", stdout);
		print_word(options);
		putchar(' ');
	}
	print_word(js_str(m, "source"));
	putchar(' ');
	print_word(at);
}

/* Of a folder that is given; the word that stands for one remains. */
static char *absolute(const char *target, bool given, struct fault *f)
{
	char *here CLEANUP_FREE = NULL;

	if (!given || *target == '/')
		return mem_strdup(target);
	here = getcwd(NULL, 0);
	if (here)
		return mem_printf("%s/%s", here, target);
	fault_sys(f, errno, "finding out the working directory", NULL);
	return NULL;
}

static int print_from_folder(json_object *m, const char *at, bool given, struct fault *f)
{
	json_object *options = js_get(m, "options");
	char *folder CLEANUP_FREE = overlay_folder(options);
	char *text CLEANUP_FREE = join(options, folder);
	char *target CLEANUP_FREE = NULL;

	if (!overlay_fits(text))
		return fault_set(
			f, FAULT_RESOURCE_EXHAUSTED, 0,
			"the options of the mount have %zu bytes, of which mount(2) would read %ld; containers run on it all the same, and --format json shows it",
			strlen(text), sysconf(_SC_PAGESIZE) - 1);
	target = absolute(at, given, f);
	if (!target)
		return -EINVAL;
	fputs("(cd ", stdout);
	print_word(folder);
	fputs(" && ", stdout);
	print_command(m, text, target);
	fputs(")\n", stdout);
	return 0;
}

int snapmount_print(json_object *m, const char *target, struct fault *f)
{
	char *text CLEANUP_FREE = join(js_get(m, "options"), "");
	const char *below = js_str(m, "target");
	char *at CLEANUP_FREE = mem_printf("%s%s%s", target ? target : "TARGET", *below ? "/" : "",
					   below);

	if (!overlay_fits(text))
		return print_from_folder(m, at, target != NULL, f);
	print_command(m, text, at);
	putchar('\n');
	return 0;
}
