// SPDX-License-Identifier: Apache-2.0
/*
 * Images: one made of a folder, or of a tar of files
 *
 * One layer, tar+zstd, with a config and a manifest. Equal folders with equal configs give equal
 * digests: the tar says nothing of when or where it was made, and `created` is the epoch unless the
 * config says otherwise. A tar is taken as it is, decompressed if need be, after its headers have
 * been read to its end; it is the layer, so its whiteouts mean what they mean in one.
 *
 * The config given is either what belongs into "config" ({"Cmd": …}, where a key that is none of
 * those is a mistake) or a whole image config, whose rootfs and history are replaced.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/image_internal.h"
#include "util/json.h"
#include "util/limits.h"

#define PIECE (256u << 10)
#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
#define EPOCH "1970-01-01T00:00:00Z"

/* ---- the config */

/* Members of a whole config, none of which can be in "config". */
static const char *const whole_keys[] = { "config",  "architecture", "os",     "variant",
					  "created", "author",	     "rootfs", "history" };
static const char *const config_keys[] = {
	"User",		"ExposedPorts",	   "Env",	 "Entrypoint",	"Cmd",
	"Volumes",	"WorkingDir",	   "Labels",	 "StopSignal",	"ArgsEscaped",
	"Memory",	"MemorySwap",	   "CpuShares",	 "Healthcheck", "Shell",
	"OnBuild",	"Hostname",	   "Domainname", "Image",	"AttachStdin",
	"AttachStdout", "AttachStderr",	   "Tty",	 "OpenStdin",	"StdinOnce",
	"StopTimeout",	"NetworkDisabled", "MacAddress",
};

static bool among(const char *key, const char *const *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

static int bad_config(struct store_call *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int bad_config(struct store_call *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(c->f, FAULT_INVALID_ARGUMENT, 0, fmt, ap);
	va_end(ap);
	fault_arg(c->f, "config");
	return -EINVAL;
}

static int check_config(struct store_call *c, json_object *config)
{
	int r = oci_config_check(config, "config", c->f);

	if (r < 0) {
		c->f->code = FAULT_INVALID_ARGUMENT;
		fault_arg(c->f, "config");
	}
	return r;
}

/* *whole or *config, of what was given; both NULL for nothing. */
static int read_given(struct store_call *c, const char *text, json_object **whole,
		      json_object **config)
{
	CLEANUP(oci_json_putp) json_object *given = NULL;
	struct fault why = { 0 };
	bool is_whole = false;
	int r;

	if (!text || !*text)
		return 0;
	r = json_parse(text, strlen(text), &given, &why);
	if (r == -ENOMEM)
		return image_no_memory(c->f);
	if (r < 0)
		return bad_config(c, "not a JSON document (%s)", why.message);
	if (!json_object_is_type(given, json_type_object))
		return bad_config(c, "not a JSON object");
	json_object_object_foreach (given, key, ignored) {
		(void)ignored;
		is_whole = is_whole || among(key, whole_keys, ARRAY_SIZE(whole_keys));
	}
	if (is_whole) {
		json_object *inner = NULL;

		json_object_object_get_ex(given, "config", &inner);
		if (inner && (r = check_config(c, inner)) < 0)
			return r;
		*whole = json_object_get(given);
		return 0;
	}
	json_object_object_foreach (given, name, value) {
		(void)value;
		if (!among(name, config_keys, ARRAY_SIZE(config_keys)))
			return bad_config(c,
					  "an image config has no \"%.64s\"; it has Cmd, "
					  "Entrypoint, Env, WorkingDir, User, Labels, "
					  "ExposedPorts, Volumes, StopSignal",
					  name);
	}
	r = check_config(c, given);
	if (!r)
		*config = json_object_get(given);
	return r;
}

static int set_default(json_object *to, const char *key, const char *value)
{
	json_object *there;

	if (json_object_object_get_ex(to, key, &there) && there)
		return 0;
	return oci_add(to, key, json_object_new_string(value));
}

/* Text members of a whole config; what else it has stays. */
static int check_texts(struct store_call *c, json_object *whole)
{
	static const char *const keys[] = { "created", "architecture", "os", "variant", "author" };
	json_object *value;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_object_object_get_ex(whole, keys[i], &value) && value &&
		    !json_object_is_type(value, json_type_string))
			return bad_config(c, "\"%s\" is not a text", keys[i]);
	return 0;
}

static json_object *new_history(const char *created)
{
	json_object *list = json_object_new_array(), *entry = json_object_new_object();

	if (list && entry && !oci_add(entry, "created", json_object_new_string(created)) &&
	    !oci_add(entry, "created_by", json_object_new_string("davit image-from-dir")) &&
	    !json_object_array_add(list, entry))
		return list;
	json_object_put(entry);
	json_object_put(list);
	return NULL;
}

static json_object *new_rootfs(const struct digest *diff_id)
{
	json_object *rootfs = json_object_new_object(), *list = json_object_new_array();

	if (rootfs && list && !oci_append(list, json_object_new_string(diff_id->text)) &&
	    !oci_add(rootfs, "type", json_object_new_string("layers")) &&
	    !json_object_object_add(rootfs, "diff_ids", list))
		return rootfs;
	json_object_put(list);
	json_object_put(rootfs);
	return NULL;
}

/* The document, as text to be freed. */
static int make_config(struct store_call *c, const char *given, const struct digest *diff_id,
		       char **text)
{
	CLEANUP(oci_json_putp) json_object *whole = NULL;
	CLEANUP(oci_json_putp) json_object *config = NULL;
	struct oci_platform platform = { 0 };
	const char *json;
	int r = read_given(c, given, &whole, &config);

	if (r < 0)
		return r;
	if (!whole)
		whole = json_object_new_object();
	if (!whole)
		return image_no_memory(c->f);
	r = check_texts(c, whole);
	if (!r)
		r = oci_platform_parse(&platform, NULL, c->f);
	if (r < 0)
		return r;
	if (set_default(whole, "created", EPOCH) < 0 ||
	    set_default(whole, "architecture", platform.architecture) < 0 ||
	    set_default(whole, "os", platform.os) < 0 ||
	    (config && oci_add(whole, "config", json_object_get(config)) < 0) ||
	    oci_add(whole, "rootfs", new_rootfs(diff_id)) < 0 ||
	    oci_add(whole, "history",
		    new_history(json_object_get_string(json_object_object_get(whole, "created")))) <
		    0)
		r = image_no_memory(c->f);
	oci_platform_clear(&platform);
	if (r < 0)
		return r;
	json = json_object_to_json_string_ext(whole, PLAIN);
	*text = json ? strdup(json) : NULL;
	return *text ? 0 : image_no_memory(c->f);
}

/* ---- the layer */

struct tar {
	struct store_call *c;
	struct image_io *io;
	struct layer_sink *sink;
	int failed; /* of reading or writing; the call's fault says why */
	uint64_t in;
	char buf[PIECE];
};

static la_ssize_t on_packed(struct archive *a, void *user, const void **buf)
{
	struct tar *t = user;
	ssize_t n = image_io_read(t->c, t->io, t->buf, sizeof(t->buf));

	(void)a;
	if (n < 0) {
		t->failed = (int)n;
		return -1;
	}
	t->in += (uint64_t)n;
	store_progress_add(t->c->progress, (uint64_t)n);
	*buf = t->buf;
	return n;
}

static int tar_fault(struct tar *t, struct archive *a)
{
	const char *text = archive_error_string(a);

	if (t->failed)
		return t->failed;
	if (archive_errno(a) == ENOMEM)
		return image_no_memory(t->c->f);
	fault_set(t->c->f, FAULT_FAILED_PRECONDITION, 0,
		  t->in ? "the tar is damaged: %s" : "the tar is empty",
		  text ? text : "unknown error");
	return -EBADMSG;
}

static struct archive *open_raw(struct tar *t)
{
	struct archive *a = archive_read_new();

	if (a && archive_read_support_filter_gzip(a) >= ARCHIVE_WARN &&
	    archive_read_support_filter_zstd(a) >= ARCHIVE_WARN &&
	    archive_read_support_format_raw(a) >= ARCHIVE_WARN &&
	    archive_read_support_format_empty(a) >= ARCHIVE_WARN)
		return a;
	if (a)
		archive_read_free(a);
	image_no_memory(t->c->f);
	return NULL;
}

/* The tar's bytes, decompressed, into the sink. */
static int copy_raw(struct tar *t, struct archive *a)
{
	struct store_call *c = t->c;
	struct archive_entry *e;
	const void *data;
	size_t size;
	int64_t at;
	uint64_t out = 0;
	int r = 0, got;

	if (archive_read_open(a, t, NULL, on_packed, NULL) != ARCHIVE_OK)
		return tar_fault(t, a);
	got = archive_read_next_header(a, &e);
	if (got != ARCHIVE_OK && got != ARCHIVE_WARN)
		return tar_fault(t, a);
	while (!r && (got = archive_read_data_block(a, &data, &size, &at)) == ARCHIVE_OK) {
		out += size;
		if (out > LIMIT_LAYER_BYTES) {
			fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				  "the tar has more than %llu bytes", LIMIT_LAYER_BYTES);
			r = -EFBIG;
		}
		if (!r)
			r = layer_sink_write(t->sink, data, size, c->f);
		if (!r)
			r = store_cancelled(c);
	}
	if (!r && got != ARCHIVE_EOF)
		r = tar_fault(t, a);
	return r;
}

static int pack_tar(struct store_call *c, int fd, struct layer_sink *sink)
{
	struct tar *t = calloc(1, sizeof(*t));
	struct archive *a = NULL;
	int r;

	if (!t)
		return image_no_memory(c->f);
	t->c = c;
	t->sink = sink;
	r = image_io_open(&t->io, fd, false, c->f);
	if (!r) {
		a = open_raw(t);
		r = a ? copy_raw(t, a) : -ENOMEM;
	}
	if (a)
		archive_read_free(a);
	image_io_free(t->io);
	free(t);
	return r;
}

static la_ssize_t on_unpacked(struct archive *a, void *user, const void **buf)
{
	struct tar *t = user;
	ssize_t n;

	(void)a;
	t->failed = store_cancelled(t->c);
	if (t->failed)
		return -1;
	n = image_io_read(t->c, t->io, t->buf, sizeof(t->buf));
	t->failed = n < 0 ? (int)n : 0;
	*buf = t->buf;
	return n;
}

/* Whether what became the layer is a tar, to its end. */
static int check_tar(struct store_call *c, const struct digest *layer)
{
	struct tar *t = calloc(1, sizeof(*t));
	struct archive *a = archive_read_new();
	CLEANUP_CLOSE int fd = -1;
	struct archive_entry *e;
	uint64_t n = 0;
	int r = 0, got = ARCHIVE_OK;

	if (!t || !a || archive_read_support_filter_zstd(a) < ARCHIVE_WARN ||
	    archive_read_support_format_tar(a) < ARCHIVE_WARN) {
		r = image_no_memory(c->f);
	} else {
		t->c = c;
		t->in = 1;
		r = content_open(c, layer->text, &fd, NULL);
		if (!r)
			r = image_io_open(&t->io, fd, false, c->f);
		if (!r && archive_read_open(a, t, NULL, on_unpacked, NULL) != ARCHIVE_OK)
			r = tar_fault(t, a);
	}
	while (!r && (got = archive_read_next_header(a, &e)) >= ARCHIVE_WARN && got != ARCHIVE_EOF)
		if (++n > LIMIT_LAYER_ENTRIES) {
			fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				  "the tar has more than %llu entries", LIMIT_LAYER_ENTRIES);
			r = -E2BIG;
		}
	if (!r && got != ARCHIVE_EOF)
		r = tar_fault(t, a);
	if (a)
		archive_read_free(a);
	if (t)
		image_io_free(t->io);
	free(t);
	return r;
}

/* Fills the ingest with the packed layer. */
static int pack(struct store_call *c, int fd, bool folder, struct ingest *to,
		struct digest *diff_id)
{
	struct layer_sink *sink;
	uint64_t size;
	int r = layer_sink_new(&sink, to, LAYER_ZSTD, 0, c->f);

	if (r < 0)
		return r;
	r = folder ? layer_pack(c, fd, LAYER_FROM_TREE, layer_sink_write, sink)
		   : pack_tar(c, fd, sink);
	if (!r)
		r = layer_sink_finish(sink, diff_id, &size, c->f);
	layer_sink_free(sink);
	return r;
}

static int make_layer(struct store_call *c, int fd, const char *name, struct digest *diff_id,
		      struct oci_descriptor *layer)
{
	struct digest key, digest;
	struct ingest *to;
	struct stat st;
	char text[DIGEST_TEXT + 16];
	uint64_t size;
	int r;

	if (fstat(fd, &st) < 0)
		return fault_sys(c->f, errno, "look at the source", NULL);
	if (digest_of(name, strlen(name), &key) < 0)
		return image_no_memory(c->f);
	snprintf(text, sizeof(text), "from-dir-%s", key.text);
	r = image_ingest_open(c, text, NULL, -1, &to);
	if (r < 0)
		return r;
	store_progress_phase(c->progress, "pack", S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	r = pack(c, fd, S_ISDIR(st.st_mode), to, diff_id);
	if (r < 0) {
		ingest_discard(to);
		return r;
	}
	size = ingest_offset(to);
	r = ingest_commit(c, to, -1, NULL, NULL, 0, &digest);
	if (r < 0 && r != -EEXIST) {
		ingest_discard(to);
		return r;
	}
	r = S_ISDIR(st.st_mode) ? 0 : check_tar(c, &digest);
	if (!r)
		r = content_set_label(c, digest.text, IMAGE_UNCOMPRESSED, diff_id->text);
	if (!r && oci_descriptor_new(layer, OCI_LAYER_ZSTD, &digest, size) < 0)
		r = image_no_memory(c->f);
	return r;
}

/* ---- the whole */

static int put_config(struct store_call *c, const char *given, const struct digest *diff_id,
		      struct oci_descriptor *out)
{
	CLEANUP_FREE char *text = NULL;
	struct digest digest;
	int r = make_config(c, given, diff_id, &text);

	if (!r)
		r = content_put(c, text, strlen(text), NULL, 0, &digest);
	if (!r && oci_descriptor_new(out, OCI_CONFIG, &digest, strlen(text)) < 0)
		r = image_no_memory(c->f);
	return r;
}

static int put_manifest(struct store_call *c, const struct oci_descriptor *config,
			const struct oci_descriptor *layer, struct oci_descriptor *out)
{
	CLEANUP(oci_json_putp) json_object *doc = json_object_new_object();
	json_object *layers;
	struct digest digest;
	const char *text;
	int r;

	if (!doc || oci_add(doc, "schemaVersion", json_object_new_int(2)) < 0 ||
	    oci_add(doc, "mediaType", json_object_new_string(OCI_MANIFEST)) < 0 ||
	    oci_add(doc, "config", json_object_get(config->json)) < 0)
		return image_no_memory(c->f);
	layers = json_object_new_array();
	if (oci_add(doc, "layers", layers) < 0 ||
	    oci_append(layers, json_object_get(layer->json)) < 0)
		return image_no_memory(c->f);
	text = json_object_to_json_string_ext(doc, PLAIN);
	if (!text)
		return image_no_memory(c->f);
	r = content_put(c, text, strlen(text), NULL, 0, &digest);
	if (!r && oci_descriptor_new(out, OCI_MANIFEST, &digest, strlen(text)) < 0)
		r = image_no_memory(c->f);
	return r;
}

int image_from_dir(struct store_call *c, int fd, const char *name, const char *config, image_fn fn,
		   void *user)
{
	CLEANUP(oci_descriptor_clear)
	struct oci_descriptor layer = { 0 }, made = { 0 }, manifest = { 0 };
	CLEANUP_FREE char *tried = NULL;
	struct digest diff_id = { "" };
	struct lease_hold hold;
	int r;

	/* what will not do is told before the work, not after it */
	r = image_check_name(c, name);
	if (!r)
		r = make_config(c, config, &diff_id, &tried);
	if (!r)
		r = lease_hold(c, &hold);
	if (r < 0)
		return r;
	r = make_layer(c, fd, name, &diff_id, &layer);
	if (!r)
		r = put_config(c, config, &diff_id, &made);
	if (!r)
		r = put_manifest(c, &made, &layer, &manifest);
	if (!r)
		r = image_put(c, name, &manifest, NULL, 0, fn, user);
	lease_release(c, &hold);
	return r;
}
