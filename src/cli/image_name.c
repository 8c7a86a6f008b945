// SPDX-License-Identifier: Apache-2.0
/*
 * The short forms of image names
 *
 * An image has the name that it was given, often a long one, and people type short ones. As podman
 * does for local images, a name without tag means ":latest", and a name may leave out what comes
 * before one of its slashes: "debian" is "docker.io/library/debian:latest" and
 * "localhost/debian:latest" too. A registry's name that was typed is never left out, but for the two
 * that are put before names that have none: docker.io and localhost.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image.h"
#include "cli/mem.h"
#include "util/cleanup.h"
#include "util/digest.h"

#define DIGEST_PREFIX_MIN 3
#define LATEST "latest"

/* Parts of a name; borrowed. */
struct reference {
	const char *path;
	size_t path_n;
	const char *tag; /* of tag_n bytes */
	size_t tag_n;
	const char *digest; /* "" for none */
};

static void parse(const char *name, struct reference *r)
{
	const char *at = strchr(name, '@'), *end = at ? at : name + strlen(name);
	const char *colon = NULL;

	/* The tag's colon comes after the last slash; one before it is a registry's port. */
	for (const char *p = name; p < end; p++) {
		if (*p == ':')
			colon = p;
		else if (*p == '/')
			colon = NULL;
	}
	r->path = name;
	r->path_n = (size_t)((colon ? colon : end) - name);
	r->tag = colon ? colon + 1 : LATEST;
	r->tag_n = colon ? (size_t)(end - colon - 1) : strlen(LATEST);
	r->digest = at ? at + 1 : "";
}

static bool cut(struct reference *r, const char *prefix)
{
	size_t n = strlen(prefix);

	if (r->path_n <= n || memcmp(r->path, prefix, n) != 0)
		return false;
	r->path += n;
	r->path_n -= n;
	return true;
}

/* The path behind what is put before every name without a registry. */
static void shorten(struct reference *r)
{
	if (cut(r, "localhost/"))
		return;
	if (cut(r, "docker.io/") || cut(r, "index.docker.io/"))
		(void)cut(r, "library/");
}

static bool same_path(const struct reference *a, const struct reference *b)
{
	return a->path_n == b->path_n && memcmp(a->path, b->path, a->path_n) == 0;
}

/* Whether `a` begins with a registry: then nothing may stand before it. */
static bool has_registry(const struct reference *a)
{
	const char *slash = memchr(a->path, '/', a->path_n);
	size_t n = slash ? (size_t)(slash - a->path) : 0;

	return n && (memchr(a->path, '.', n) || memchr(a->path, ':', n) ||
		     (n == strlen("localhost") && memcmp(a->path, "localhost", n) == 0));
}

static bool ends_with(const struct reference *whole, const struct reference *part)
{
	size_t before = whole->path_n - part->path_n;

	return whole->path_n > part->path_n && whole->path[before - 1] == '/' &&
	       memcmp(whole->path + before, part->path, part->path_n) == 0;
}

static bool digest_begins(const char *digest, const char *text)
{
	const char *hex = strchr(digest, ':');
	size_t n;

	if (!hex)
		return false;
	if (strncmp(text, "sha256:", 7) == 0) {
		if (strncmp(digest, "sha256:", 7) != 0)
			return false;
		text += 7;
	}
	n = strlen(text);
	for (size_t i = 0; i < n; i++) {
		if (!isxdigit((unsigned char)text[i]))
			return false;
	}
	return n >= DIGEST_PREFIX_MIN && strncmp(hex + 1, text, n) == 0;
}

enum image_match cli_image_match(const char *text, const char *name, const char *digest)
{
	struct reference wanted, have, wanted_short, have_short;

	if (strcmp(text, name) == 0)
		return IMAGE_MATCH_EXACT;
	parse(text, &wanted);
	parse(name, &have);
	if (*wanted.digest) {
		/* A tag beside a digest is only a hint. */
		if (strcmp(wanted.digest, digest) != 0)
			return IMAGE_MATCH_NONE;
	} else if (wanted.tag_n != have.tag_n || memcmp(wanted.tag, have.tag, have.tag_n) != 0 ||
		   *have.digest) {
		return digest_begins(digest, text) ? IMAGE_MATCH_DIGEST : IMAGE_MATCH_NONE;
	}
	if (wanted.path_n && same_path(&wanted, &have))
		return IMAGE_MATCH_SAME;
	wanted_short = wanted;
	have_short = have;
	shorten(&wanted_short);
	shorten(&have_short);
	/* "docker.io/…" and "localhost/…" are not each other's short forms. */
	if (wanted.path_n && same_path(&wanted_short, &have_short) &&
	    (!has_registry(&wanted) || !has_registry(&have)))
		return IMAGE_MATCH_SUFFIX;
	if (wanted.path_n && !has_registry(&wanted) && ends_with(&have, &wanted))
		return IMAGE_MATCH_SUFFIX;
	return digest_begins(digest, text) ? IMAGE_MATCH_DIGEST : IMAGE_MATCH_NONE;
}

void cli_image_short_digest(const char *digest, char *buf, size_t size)
{
	const char *hex = strchr(digest, ':');

	hex = hex ? hex + 1 : digest;
	if (!size)
		return;
	if (size > 13)
		size = 13;
	strncpy(buf, hex, size - 1);
	buf[size - 1] = '\0';
}
