// SPDX-License-Identifier: Apache-2.0
/*
 * Images: which manifest below an index is the one for a platform
 *
 * The best match of all manifests that the index and the indexes in it name, the first of equals.
 * An entry without a platform is looked into: its image config tells. What is no container image
 * (attestations, artifacts) is passed over. A target that is a manifest itself is the answer,
 * whatever platform it is for: there is nothing to choose. Who was asked for a platform by name
 * compares it afterwards (image_is_for).
 *
 * The best match may be missing: an import keeps one platform. Then no worse one takes its place, but
 * what is there is looked for as well: the fault says it, and where no platform was asked for it may
 * be taken when it is the only one (image_manifest_here).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/image_internal.h"
#include "util/limits.h"

struct chooser {
	struct store_call *c;
	const struct oci_platform *wanted; /* NULL: all whose manifest is there */
	image_fetch_fn fetch;
	void *user;
	struct lh_table *seen;
	size_t count, unknown; /* entries; those whose platform cannot be known */
	size_t have; /* without `wanted`: those that there are */
	int score;
	struct oci_descriptor best;
	char there[256]; /* the platforms that there are */
};

static int fetch(struct chooser *ch, const struct oci_descriptor *d)
{
	return ch->fetch ? ch->fetch(ch->user, d) : content_has(ch->c, d->digest.text);
}

static void note_platform(struct chooser *ch, const struct oci_platform *p)
{
	size_t n = strlen(ch->there);
	char text[96];

	oci_platform_text(p, text, sizeof(text));
	if (!strcmp(p->os, "unknown") || strstr(ch->there, text))
		return;
	snprintf(ch->there + n, sizeof(ch->there) - n, "%s%s", n ? ", " : "", text);
}

static int take(struct chooser *ch, const struct oci_descriptor *d, const struct oci_platform *p)
{
	int score;

	if (!ch->wanted) {
		score = strcmp(p->os, "unknown") ? fetch(ch, d) : 0;
		if (score <= 0)
			return score;
		ch->have++;
	} else {
		score = oci_platform_match(ch->wanted, p);
	}
	note_platform(ch, p);
	if (score <= ch->score)
		return 0;
	oci_descriptor_clear(&ch->best);
	ch->score = score;
	return oci_descriptor_copy(&ch->best, d, ch->c->f);
}

/* A manifest without a platform beside it. */
static int look_into(struct chooser *ch, const struct oci_descriptor *d)
{
	struct store_call *c = ch->c;
	struct oci_document doc;
	struct oci_config config;
	int r = fetch(ch, d);

	if (r <= 0) {
		ch->unknown += !r;
		return r;
	}
	r = image_document(c, d, &doc);
	if (r < 0)
		return r;
	if (oci_is_config(doc.config.media_type)) {
		r = fetch(ch, &doc.config);
		ch->unknown += !r;
		if (r > 0) {
			r = image_config(c, d, &doc, &config);
			if (!r) {
				r = take(ch, d, &config.platform);
				oci_config_clear(&config);
			}
		}
	}
	oci_document_clear(&doc);
	return r;
}

static int look(struct chooser *ch, const struct oci_descriptor *index, unsigned depth)
{
	struct store_call *c = ch->c;
	struct oci_document doc;
	int r = store_cancelled(c);

	if (r < 0)
		return r;
	if (depth > LIMIT_IMAGE_DEPTH) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s: indexes are nested deeper than %u", index->digest.text,
			  LIMIT_IMAGE_DEPTH);
		return -ELOOP;
	}
	r = image_document(c, index, &doc);
	for (size_t i = 0; r >= 0 && i < doc.n_children; i++) {
		const struct oci_descriptor *d = &doc.children[i];
		enum oci_kind kind = oci_kind_of(d->media_type);

		r = image_set_add(ch->seen, d->digest.text);
		if (r < 0) {
			r = image_no_memory(c->f);
			break;
		}
		if (!r || kind == OCI_KIND_OTHER)
			continue;
		if (++ch->count > LIMIT_IMAGE_CHILDREN) {
			fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
				  "%s names more than %u manifests", index->digest.text,
				  LIMIT_IMAGE_CHILDREN);
			r = -E2BIG;
			break;
		}
		if (kind == OCI_KIND_MANIFEST) {
			r = d->has_platform ? take(ch, d, &d->platform) : look_into(ch, d);
			continue;
		}
		if (ch->wanted && d->has_platform &&
		    !oci_platform_match(ch->wanted, &d->platform)) {
			note_platform(ch, &d->platform);
			continue;
		}
		r = fetch(ch, d);
		ch->unknown += !r;
		if (r > 0)
			r = look(ch, d, depth + 1);
	}
	oci_document_clear(&doc);
	return r < 0 ? r : 0;
}

static int none(struct chooser *ch, const char *what)
{
	char wanted[96], unknown[96] = "";

	if (!ch->wanted)
		return -ENOENT;
	oci_platform_text(ch->wanted, wanted, sizeof(wanted));
	if (ch->unknown)
		snprintf(unknown, sizeof(unknown), "%s%zu entries are missing",
			 *ch->there ? "; " : "", ch->unknown);
	fault_set(ch->c->f, FAULT_NOT_FOUND, 0, "%s has no image for %s (there is: %s%s)", what,
		  wanted, *ch->there || *unknown ? ch->there : "none", unknown);
	fault_arg(ch->c->f, "platform");
	return -ENOENT;
}

static int choose(struct chooser *ch, const struct oci_descriptor *target)
{
	char what[DIGEST_TEXT + sizeof("the index ")];
	struct store_call *c = ch->c;
	int r;

	switch (oci_kind_of(target->media_type)) {
	case OCI_KIND_MANIFEST:
		return oci_descriptor_copy(&ch->best, target, c->f);
	case OCI_KIND_INDEX:
		break;
	default:
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0, "%s is no image: its type is %.128s",
			  target->digest.text, target->media_type);
		return -EINVAL;
	}
	ch->seen = image_set_new();
	if (!ch->seen)
		return image_no_memory(c->f);
	r = fetch(ch, target);
	/* one that is not there is what reading it says */
	if (r >= 0)
		r = look(ch, target, 1);
	lh_table_free(ch->seen);
	if (r < 0)
		return r;
	if (ch->score)
		return 0;
	snprintf(what, sizeof(what), "the index %s", target->digest.text);
	return none(ch, what);
}

/* What was chosen below the index is not there: its platform and those that are. */
static int missing(struct chooser *ch, const struct oci_descriptor *target)
{
	struct store_call quiet = *ch->c;
	struct fault ignored = { 0 };
	struct chooser all = { .c = &quiet, .fetch = ch->fetch, .user = ch->user };
	char wanted[96];

	quiet.f = &ignored;
	oci_platform_text(ch->wanted, wanted, sizeof(wanted));
	(void)choose(&all, target);
	oci_descriptor_clear(&all.best);
	fault_set(ch->c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the image for %s, the manifest %s, is missing in the namespace '%s' (there is: "
		  "%s)",
		  wanted, ch->best.digest.text, ch->c->ns, *all.there ? all.there : "none");
	return -ENOENT;
}

int image_choose(struct store_call *c, const struct oci_descriptor *target,
		 const struct oci_platform *platform, image_fetch_fn fn, void *user,
		 struct oci_descriptor *manifest, struct oci_document *doc)
{
	struct chooser ch = { .c = c, .wanted = platform, .fetch = fn, .user = user };
	int r;

	memset(manifest, 0, sizeof(*manifest));
	memset(doc, 0, sizeof(*doc));
	r = choose(&ch, target);
	if (!r)
		r = fetch(&ch, &ch.best);
	if (!r && oci_kind_of(target->media_type) == OCI_KIND_INDEX)
		r = missing(&ch, target);
	if (r >= 0)
		r = image_document(c, &ch.best, doc);
	if (r < 0) {
		oci_descriptor_clear(&ch.best);
		return r;
	}
	*manifest = ch.best;
	return 0;
}

static int is_for_another(struct store_call *c, const struct oci_descriptor *manifest,
			  const struct oci_platform *wanted, const struct oci_platform *have)
{
	char is[96], shall[96];

	oci_platform_text(have, is, sizeof(is));
	oci_platform_text(wanted, shall, sizeof(shall));
	fault_set(c->f, FAULT_NOT_FOUND, 0, "the image %s is for %s, not for %s",
		  manifest->digest.text, is, shall);
	fault_arg(c->f, "platform");
	return -ENOENT;
}

int image_is_for(struct store_call *c, const struct oci_descriptor *manifest,
		 const struct oci_document *doc, const struct oci_platform *platform,
		 image_fetch_fn fn, void *user)
{
	struct chooser ch = { .c = c, .fetch = fn, .user = user };
	struct oci_config config = { 0 };
	const struct oci_platform *have = &manifest->platform;
	int r;

	if (!manifest->has_platform) {
		if (!oci_is_config(doc->config.media_type))
			return 0;
		r = fetch(&ch, &doc->config);
		if (r > 0)
			r = image_config(c, manifest, doc, &config);
		else if (!r)
			return 0;
		if (r < 0)
			return r;
		have = &config.platform;
	}
	r = oci_platform_match(platform, have) ? 0 : is_for_another(c, manifest, platform, have);
	oci_config_clear(&config);
	return r;
}

int image_choose_among(struct store_call *c, const struct oci_descriptor *v, size_t n,
		       const struct oci_platform *platform, image_fetch_fn fn, void *user,
		       size_t *which)
{
	struct chooser ch = { .c = c, .wanted = platform, .fetch = fn, .user = user };
	bool equals = false;
	int r = 0, best = 0;

	ch.seen = image_set_new();
	if (!ch.seen)
		return image_no_memory(c->f);
	for (size_t i = 0; !r && i < n; i++) {
		/* each by itself: what it has for the platform */
		ch.score = 0;
		if (oci_kind_of(v[i].media_type) == OCI_KIND_INDEX) {
			r = fetch(&ch, &v[i]);
			r = r > 0 ? look(&ch, &v[i], 1) : r;
		} else if (oci_kind_of(v[i].media_type) == OCI_KIND_MANIFEST) {
			r = v[i].has_platform ? take(&ch, &v[i], &v[i].platform)
					      : look_into(&ch, &v[i]);
		}
		if (ch.score && ch.score == best)
			equals |= strcmp(v[i].digest.text, v[*which].digest.text) != 0;
		if (ch.score <= best)
			continue;
		best = ch.score;
		equals = false;
		*which = i;
	}
	lh_table_free(ch.seen);
	oci_descriptor_clear(&ch.best);
	if (r < 0)
		return r;
	if (best || !*ch.there)
		return best && !equals;
	return none(&ch, "the archive");
}

int image_manifest(struct store_call *c, const struct oci_descriptor *target,
		   const struct oci_platform *platform, struct oci_descriptor *manifest,
		   struct oci_document *doc)
{
	return image_choose(c, target, platform, NULL, NULL, manifest, doc);
}

int image_manifest_here(struct store_call *c, const struct oci_descriptor *target,
			const struct oci_platform *platform, struct oci_descriptor *manifest,
			struct oci_document *doc)
{
	struct chooser all = { .c = c };
	struct fault why;
	int r = image_manifest(c, target, platform, manifest, doc);

	if (r != -ENOENT || oci_kind_of(target->media_type) != OCI_KIND_INDEX)
		return r;
	why = *c->f;
	r = choose(&all, target);
	if (!r && all.have == 1)
		r = image_document(c, &all.best, doc);
	else
		r = -ENOENT;
	if (!r) {
		*manifest = all.best;
		return 0;
	}
	oci_descriptor_clear(&all.best);
	*c->f = why;
	return r;
}
