// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database: images
 *
 * content/index.json names all images of all namespaces, with their targets; what hangs below a
 * target is in the blobs. So images can be had back without any row. Lost with the rows are their
 * labels alone. The labels that keep children from being collected are set as importing sets them
 * (image_walk.c); for what is not on the disk there are none.
 *
 * A document whose file is not what its digest says is told of, and not followed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/db_salvage_internal.h"
#include "store/oci.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"

#define INDEX_BYTES (256u << 20)
#define NAMESPACE "org.davit.namespace"
#define LABEL "containerd.io/gc.ref.content."
#define BLOBS "content/blobs/sha256/"

static const char SQL_HAS[] = "SELECT 1 FROM blobs WHERE digest = ?1";
static const char SQL_IMAGE[] =
	"INSERT OR IGNORE INTO images VALUES (?1, ?2, ?3, ?4, '{}', ?5, ?5)";
static const char SQL_IMAGES[] =
	"SELECT namespace, name, target FROM images "
	"WHERE (namespace, name) > (?1, ?2) ORDER BY namespace, name LIMIT 1";
static const char SQL_CONTENT[] = "INSERT OR IGNORE INTO content VALUES (?1, ?2, '{}', ?3, ?3)";
static const char SQL_LABELS[] = "UPDATE content SET labels = "
				 "json_patch(iif(json_valid(labels), labels, '{}'), ?3) "
				 "WHERE namespace = ?1 AND digest = ?2";
/* what was visited, in this namespace: a table of the connection alone */
static const char SQL_VISITED[] = "CREATE TEMP TABLE visited (namespace TEXT, digest TEXT, "
				  "PRIMARY KEY (namespace, digest)) WITHOUT ROWID";
static const char SQL_VISIT[] = "INSERT OR IGNORE INTO temp.visited VALUES (?1, ?2)";

void salvage_note(struct salvage *s, const char *fmt, ...)
{
	CLEANUP_FREE char *line = NULL;
	va_list ap;
	int n;

	if (s->n_lines++ >= SALVAGE_LINES)
		return;
	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0) {
		line = NULL;
		return;
	}
	/* names may have anything in them, and this goes into a log */
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	fprintf(s->lines, "\n  %s", line);
}

static sqlite3_stmt *statement(struct salvage *s, const char *text, const char *a, const char *b)
{
	sqlite3_stmt *q = db_statement(s->db, text, s->f);

	if (q && a)
		db_bind_text(q, 1, a);
	if (q && b)
		db_bind_text(q, 2, b);
	return q;
}

/* Rows changed, or negative. */
static int change(struct salvage *s, sqlite3_stmt *q)
{
	int r = q ? db_run(s->db, q, "write", s->f) : -EINVAL;

	return r < 0 ? r : sqlite3_changes(s->db->sql);
}

static int has_blob(struct salvage *s, const char *digest)
{
	CLEANUP(db_donep) sqlite3_stmt *q = statement(s, SQL_HAS, digest, NULL);
	int step = q ? sqlite3_step(q) : SQLITE_ERROR;

	if (step != SQLITE_ROW && step != SQLITE_DONE)
		return db_fault(s->db, "read", s->f);
	return step == SQLITE_ROW;
}

/* ---- index.json */

static const char *annotation(json_object *notes, const char *key)
{
	json_object *v = json_object_object_get(notes, key);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static bool namespace_valid(const char *ns)
{
	size_t n = strlen(ns);

	return n && n <= LIMIT_ID_BYTES &&
	       strspn(ns, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int take_image(struct salvage *s, json_object *d)
{
	json_object *notes = json_object_object_get(d, "annotations");
	CLEANUP_FREE char *ns = NULL;
	CLEANUP_FREE char *name = NULL;
	struct oci_descriptor target = { 0 };
	const char *whose = annotation(notes, NAMESPACE), *ref = annotation(notes, OCI_REF_NAME);
	sqlite3_stmt *q;
	size_t n;
	int r;

	if (!whose || !namespace_valid(whose) || !ref)
		return 0; /* not davit's own */
	n = strlen(whose);
	if (strcmp(whose, "default") && !strncmp(ref, whose, n) && ref[n] == '/')
		ref += n + 1;
	ns = strdup(whose);
	name = strdup(ref);
	if (!ns || !name)
		return db_no_memory(s->f);
	/* those two are the index's; one that the target may have had of its own is lost */
	json_object_object_del(notes, NAMESPACE);
	json_object_object_del(notes, OCI_REF_NAME);
	if (!json_object_object_length(notes))
		json_object_object_del(d, "annotations");
	r = oci_descriptor_read(&target, d, "index.json", NULL);
	if (r < 0)
		return r == -ENOMEM ? db_no_memory(s->f) : 0;
	q = statement(s, SQL_IMAGE, ns, name);
	if (q) {
		db_bind_text(q, 3, target.digest.text);
		db_bind_text(q, 4,
			     json_object_to_json_string_ext(
				     target.json,
				     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		sqlite3_bind_int64(q, 5, clock_now());
	}
	r = change(s, q);
	oci_descriptor_clear(&target);
	if (r > 0) {
		s->images_found++;
		salvage_note(s, "image %s (namespace %s): from content/index.json", name, ns);
	}
	return r < 0 ? r : 0;
}

int salvage_index(struct salvage *s)
{
	CLEANUP(json_putp) json_object *index = NULL;
	struct fault f = { 0 };
	json_object *list;
	int r = json_parse_file(s->root_fd, "content/index.json", INDEX_BYTES, &index, &f);

	if (r == -ENOMEM)
		return db_no_memory(s->f);
	if (r < 0) {
		if (r != -ENOENT)
			salvage_note(s, "content/index.json cannot be read: %s", f.message);
		return 0;
	}
	list = json_object_object_get(index, "manifests");
	if (!json_object_is_type(list, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *d = json_object_array_get_idx(list, i);

		r = json_object_is_type(d, json_type_object) ? take_image(s, d) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- what hangs below */

struct walk {
	struct salvage *s;
	const char *ns, *name;
	unsigned visited;
};

static int visit(struct walk *w, const struct oci_descriptor *d, unsigned depth);

/* 1: *doc is it, 0: it is not what it should be */
static int read_document(struct walk *w, const struct oci_descriptor *d, struct oci_document *doc)
{
	CLEANUP_FREE char *text = NULL;
	char path[sizeof(BLOBS) + DIGEST_HEX];
	struct digest found;
	struct fault f = { 0 };
	size_t size;
	int r;

	memset(doc, 0, sizeof(*doc));
	snprintf(path, sizeof(path), BLOBS "%s", digest_hex(&d->digest));
	r = fd_read_file(w->s->root_fd, path, LIMIT_MANIFEST_BYTES, &text, &size);
	if (!r)
		r = digest_of(text, size, &found);
	if (!r && strcmp(found.text, d->digest.text))
		r = -EUCLEAN;
	if (!r)
		r = oci_document_read(doc, text, size, d->media_type, d->digest.text, &f);
	if (!r)
		return 1;
	if (r == -ENOMEM)
		return db_no_memory(w->s->f);
	w->s->documents_lost++;
	salvage_note(w->s, "image %s (namespace %s): %s cannot be read: %s", w->name, w->ns,
		     d->digest.text, f.code ? f.message : strerror(-r));
	return 0;
}

/* Adds LABEL KIND NUMBER: digest, when it is on the disk. */
static int add_label(struct salvage *s, json_object *labels, const char *kind, size_t i,
		     const char *digest)
{
	char key[64];
	json_object *v;
	int r = has_blob(s, digest);

	if (r <= 0)
		return r;
	if (!strcmp(kind, "config"))
		snprintf(key, sizeof(key), LABEL "%s", kind);
	else
		snprintf(key, sizeof(key), LABEL "%s%zu", kind, i);
	v = json_object_new_string(digest);
	if (v && !json_object_object_add(labels, key, v))
		return 0;
	json_object_put(v);
	return db_no_memory(s->f);
}

static int set_labels(struct walk *w, const char *digest, const struct oci_document *doc)
{
	CLEANUP(json_putp) json_object *labels = json_object_new_object();
	bool index = doc->kind == OCI_KIND_INDEX;
	const char *text;
	sqlite3_stmt *q;
	int r = labels ? 0 : db_no_memory(w->s->f);

	if (!r && !index)
		r = add_label(w->s, labels, "config", 0, doc->config.digest.text);
	for (size_t i = 0; !r && i < doc->n_children; i++) {
		const struct oci_descriptor *child = &doc->children[i];
		const char *kind = !index					      ? "l."
				   : oci_kind_of(child->media_type) == OCI_KIND_OTHER ? ""
										      : "m.";

		r = add_label(w->s, labels, kind, i, child->digest.text);
	}
	if (r < 0)
		return r;
	text = json_object_to_json_string_ext(labels, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return db_no_memory(w->s->f);
	q = statement(w->s, SQL_LABELS, w->ns, digest);
	if (q)
		db_bind_text(q, 3, text);
	r = change(w->s, q);
	return r < 0 ? r : 0;
}

static int follow(struct walk *w, const struct oci_descriptor *d, unsigned depth)
{
	struct oci_document doc;
	int r = read_document(w, d, &doc);

	if (r <= 0)
		return r;
	r = set_labels(w, d->digest.text, &doc);
	if (!r && doc.kind == OCI_KIND_MANIFEST)
		r = visit(w, &doc.config, depth + 1);
	for (size_t i = 0; !r && i < doc.n_children; i++)
		r = visit(w, &doc.children[i], depth + 1);
	oci_document_clear(&doc);
	return r;
}

static int visit(struct walk *w, const struct oci_descriptor *d, unsigned depth)
{
	sqlite3_stmt *q;
	int r;

	if (depth > LIMIT_IMAGE_DEPTH || w->visited++ > LIMIT_IMAGE_CHILDREN)
		return 0;
	r = has_blob(w->s, d->digest.text);
	if (r > 0)
		r = change(w->s, statement(w->s, SQL_VISIT, w->ns, d->digest.text));
	if (r <= 0)
		return r;
	q = statement(w->s, SQL_CONTENT, w->ns, d->digest.text);
	if (q)
		sqlite3_bind_int64(q, 3, clock_now());
	r = change(w->s, q);
	if (r < 0)
		return r;
	w->s->content_found += (uint64_t)r;
	return oci_kind_of(d->media_type) == OCI_KIND_OTHER ? 0 : follow(w, d, depth);
}

static int walk_image(struct salvage *s, const char *ns, const char *name, const char *target)
{
	CLEANUP(json_putp) json_object *j = NULL;
	struct oci_descriptor d = { 0 };
	struct walk w = { .s = s, .ns = ns, .name = name };
	int r = json_parse(target, strlen(target), &j, NULL);

	if (!r)
		r = oci_descriptor_read(&d, j, "target", NULL);
	if (!r)
		r = visit(&w, &d, 0);
	else
		r = r == -ENOMEM ? db_no_memory(s->f) : 0;
	oci_descriptor_clear(&d);
	return r;
}

int salvage_images(struct salvage *s)
{
	CLEANUP_FREE char *ns = strdup("");
	CLEANUP_FREE char *name = strdup("");
	int r = ns && name ? db_exec(s->db, SQL_VISITED, "write", s->f) : db_no_memory(s->f);

	while (!r) {
		CLEANUP_FREE char *target = NULL;
		sqlite3_stmt *q = statement(s, SQL_IMAGES, ns, name);
		int step = q ? sqlite3_step(q) : SQLITE_ERROR;

		if (step == SQLITE_ROW) {
			free(ns);
			free(name);
			ns = strdup(db_column_text(q, 0));
			name = strdup(db_column_text(q, 1));
			target = strdup(db_column_text(q, 2));
			r = ns && name && target ? 0 : db_no_memory(s->f);
		} else if (step != SQLITE_DONE) {
			r = db_fault(s->db, "read", s->f);
		}
		if (q)
			db_done(q);
		if (r < 0 || !target)
			break;
		r = walk_image(s, ns, name, target);
	}
	return r;
}
