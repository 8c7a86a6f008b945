// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database: rows
 *
 * A record is told by the number and types of its columns, which differ from table to table, but for
 * content and leases: there it is the digest. Records of indexes have other columns and are passed
 * over, as are those of SQLite's own tables and of `meta`. A record of the right shape is taken only
 * if each column is as davit writes it: ids, digests, JSON, a spec that can be unpacked. So bytes
 * that were changed inside a page are noticed here, where SQLite would not.
 *
 * Should a row be there twice, which damage can bring about, the one that was changed last stays.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "store/db_salvage_internal.h"
#include "store/lease.h"
#include "store/oci.h"
#include "util/cleanup.h"
#include "util/digest.h"
#include "util/json.h"
#include "util/limits.h"

enum table {
	T_NAMESPACES,
	T_CONTAINERS,
	T_BLOBS,
	T_CONTENT,
	T_IMAGES,
	T_SNAPSHOTS,
	T_LEASES,
	T_RESOURCES,
	TABLES,
	T_NONE = TABLES,
	T_SPOILT,
};

/*
 * Types of columns: t any text, c one without control characters, i an id, d a digest, j labels, D a descriptor of the digest before
 * it, I a number, k a kind of snapshot, s a spec, x extensions, 0 nothing.
 */
static const struct {
	const char *columns, *select, *insert;
} tables[] = {
	[T_NAMESPACES] = { "ij", "SELECT name, labels FROM namespaces",
			   "INSERT OR IGNORE INTO namespaces VALUES (?1, ?2)" },
	[T_CONTAINERS] = { "iitttttjsxII",
			   "SELECT namespace, id, image, runtime, snapshotter, snapshot_key, bundle, "
			   "labels, spec, extensions, created_at, updated_at FROM containers",
			   "INSERT INTO containers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
			   "?11, ?12) ON CONFLICT (namespace, id) DO UPDATE SET image = ?3, "
			   "runtime = ?4, snapshotter = ?5, snapshot_key = ?6, bundle = ?7, "
			   "labels = ?8, spec = ?9, extensions = ?10, created_at = ?11, "
			   "updated_at = ?12 WHERE ?12 > updated_at" },
	[T_BLOBS] = { "dII", "SELECT digest, size, created_at FROM blobs",
		      "INSERT OR IGNORE INTO blobs VALUES (?1, ?2, ?3)" },
	[T_CONTENT] = { "idjII",
			"SELECT namespace, digest, labels, created_at, updated_at FROM content",
			"INSERT INTO content VALUES (?1, ?2, ?3, ?4, ?5) "
			"ON CONFLICT (namespace, digest) DO UPDATE SET labels = ?3, "
			"created_at = ?4, updated_at = ?5 WHERE ?5 > updated_at" },
	[T_IMAGES] = { "icdDjII",
		       "SELECT namespace, name, digest, target, labels, created_at, updated_at "
		       "FROM images",
		       "INSERT INTO images VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) "
		       "ON CONFLICT (namespace, name) DO UPDATE SET digest = ?3, target = ?4, "
		       "labels = ?5, created_at = ?6, updated_at = ?7 WHERE ?7 > updated_at" },
	[T_SNAPSHOTS] = { "0itttkjIIII",
			  "SELECT NULL, namespace, snapshotter, name, parent, kind, labels, size, "
			  "inodes, created_at, updated_at FROM snapshots",
			  "INSERT OR IGNORE INTO snapshots VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
			  "?9, ?10, ?11)" },
	[T_LEASES] = { "iijII", "SELECT namespace, id, labels, created_at, expires_at FROM leases",
		       "INSERT OR IGNORE INTO leases VALUES (?1, ?2, ?3, ?4, ?5)" },
	[T_RESOURCES] = { "iitt", "SELECT namespace, lease, type, id FROM lease_resources",
			  "INSERT OR IGNORE INTO lease_resources VALUES (?1, ?2, ?3, ?4)" },
};

/* ---- columns */

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* As the method table's IPC_ID. */
static bool id_valid(const char *p, size_t n)
{
	if (!n || n > LIMIT_ID_BYTES || !is_alnum(p[0]) || !is_alnum(p[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(p[i]) && (!strchr("._-", p[i]) || !is_alnum(p[i + 1])))
			return false;
	return true;
}

static bool is_plain(const char *p)
{
	while ((unsigned char)*p >= 0x20 && *p != 0x7f)
		p++;
	return !*p;
}

/* 1, 0, or -ENOMEM. Read as those do that use them (db_labels_read). */
static int labels_valid(const char *p)
{
	enum json_tokener_error error = json_tokener_success;
	CLEANUP(json_putp) json_object *j = json_tokener_parse_verbose(p, &error);

	if (!j && error == json_tokener_success && strcmp(p, "null"))
		return -ENOMEM;
	return json_object_is_type(j, json_type_object);
}

static int descriptor_valid(const char *p, size_t n, const char *digest)
{
	CLEANUP(json_putp) json_object *j = NULL;
	struct oci_descriptor d = { 0 };
	int r = json_parse(p, n, &j, NULL);

	if (!r)
		r = oci_descriptor_read(&d, j, "target", NULL);
	if (!r)
		r = strcmp(d.digest.text, digest) ? -EINVAL : 0;
	oci_descriptor_clear(&d);
	return r == -ENOMEM ? r : !r;
}

static int spec_valid(const char *p, size_t n)
{
	unsigned long long size = ZSTD_getFrameContentSize(p, n);
	CLEANUP(json_putp) json_object *j = NULL;
	CLEANUP_FREE char *text = NULL;
	int r;

	if (size > LIMIT_SPEC_BYTES) /* the values that mean an error too */
		return 0;
	text = malloc((size_t)size + 1);
	if (!text)
		return -ENOMEM;
	if (ZSTD_decompress(text, (size_t)size, p, n) != size)
		return 0;
	r = json_parse(text, (size_t)size, &j, NULL);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	return json_object_is_type(j, json_type_object);
}

/*
 * Whether it is one value of msgpack. Counted, not unpacked: msgpack-c makes room for as many
 * elements as a damaged count says.
 */
static bool extensions_valid(const char *data, size_t n)
{
	/* bytes behind the type, those that say a length, and what it counts if not bytes */
	static const struct {
		uint8_t fixed, length, elements;
	} types[] = {
		[0xc4 - 0xc0] = { 0, 1, 0 },  [0xc5 - 0xc0] = { 0, 2, 0 },
		[0xc6 - 0xc0] = { 0, 4, 0 },  [0xc7 - 0xc0] = { 1, 1, 0 },
		[0xc8 - 0xc0] = { 1, 2, 0 },  [0xc9 - 0xc0] = { 1, 4, 0 },
		[0xca - 0xc0] = { 4, 0, 0 },  [0xcb - 0xc0] = { 8, 0, 0 },
		[0xcc - 0xc0] = { 1, 0, 0 },  [0xcd - 0xc0] = { 2, 0, 0 },
		[0xce - 0xc0] = { 4, 0, 0 },  [0xcf - 0xc0] = { 8, 0, 0 },
		[0xd0 - 0xc0] = { 1, 0, 0 },  [0xd1 - 0xc0] = { 2, 0, 0 },
		[0xd2 - 0xc0] = { 4, 0, 0 },  [0xd3 - 0xc0] = { 8, 0, 0 },
		[0xd4 - 0xc0] = { 2, 0, 0 },  [0xd5 - 0xc0] = { 3, 0, 0 },
		[0xd6 - 0xc0] = { 5, 0, 0 },  [0xd7 - 0xc0] = { 9, 0, 0 },
		[0xd8 - 0xc0] = { 17, 0, 0 }, [0xd9 - 0xc0] = { 0, 1, 0 },
		[0xda - 0xc0] = { 0, 2, 0 },  [0xdb - 0xc0] = { 0, 4, 0 },
		[0xdc - 0xc0] = { 0, 2, 1 },  [0xdd - 0xc0] = { 0, 4, 1 },
		[0xde - 0xc0] = { 0, 2, 2 },  [0xdf - 0xc0] = { 0, 4, 2 },
	};
	const uint8_t *p = (const uint8_t *)data;
	uint64_t owed = n ? 1 : 0;

	for (; owed; owed--) {
		uint64_t bytes = 0, elements = 0, count = 0;
		uint8_t c;

		if (!n || owed > n)
			return false;
		c = *p++;
		n--;
		if (c >= 0xa0 && c < 0xc0) {
			bytes = c & 31;
		} else if (c >= 0x80 && c < 0xa0) {
			elements = (c & 15u) * (c < 0x90 ? 2u : 1u);
		} else if (c == 0xc1) {
			return false;
		} else if (c >= 0xc4 && c < 0xe0) {
			size_t length = types[c - 0xc0].length;

			if (length > n)
				return false;
			for (; length; length--, n--)
				count = count << 8 | *p++;
			elements = count * types[c - 0xc0].elements;
			bytes = types[c - 0xc0].elements ? 0 : types[c - 0xc0].fixed + count;
		}
		if (bytes > n)
			return false;
		p += bytes;
		n -= bytes;
		owed += elements;
	}
	return !n;
}

/* Whether it has the type that the table's column has: else it is of another table. */
static bool column_fits(char column, const struct salvage_value *v)
{
	switch (column) {
	case '0':
		return v->type == SALVAGE_NULL;
	case 'I':
		return v->type == SALVAGE_INT;
	case 's':
	case 'x':
		return v->type == SALVAGE_BLOB;
	default:
		return v->type == SALVAGE_TEXT;
	}
}

static int column_valid(char column, const struct salvage_value *v)
{
	if (column == '0' || column == 'I')
		return 1;
	if (!v->p)
		return 0;
	switch (column) {
	case 'i':
		return id_valid(v->p, v->size);
	case 'c':
		return is_plain(v->p);
	case 'd':
		return digest_valid_n(v->p, v->size);
	case 'j':
		return labels_valid(v->p);
	case 'D':
		return descriptor_valid(v->p, v->size, v[-1].p);
	case 'k':
		return !strcmp(v->p, "view") || !strcmp(v->p, "active") ||
		       !strcmp(v->p, "committed");
	case 's':
		return spec_valid(v->p, v->size);
	case 'x':
		return extensions_valid(v->p, v->size);
	default:
		return 1;
	}
}

static int row_valid(enum table t, const struct salvage_value *v, bool specs)
{
	const char *columns = tables[t].columns;
	int r = 1;

	for (size_t i = 0; r > 0 && columns[i]; i++)
		if (specs || columns[i] != 's')
			r = column_valid(columns[i], &v[i]);
	return r;
}

static bool row_fits(enum table t, const struct salvage_value *v, size_t n)
{
	const char *columns = tables[t].columns;

	if (n != strlen(columns))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!column_fits(columns[i], &v[i]))
			return false;
	return true;
}

static enum table table_of(const struct salvage_value *v, size_t n)
{
	enum table t = 0;

	while (t < TABLES && !row_fits(t, v, n))
		t++;
	/* an index of digests and `meta` have two texts as well */
	if (t == T_NAMESPACES && v[1].p[0] != '{')
		return T_NONE;
	if (t == T_CONTENT && strncmp(v[1].p, "sha256:", 7))
		return T_LEASES;
	return t;
}

/* ---- into the new database */

static uint64_t *counter(struct salvage *s, enum table t)
{
	switch (t) {
	case T_NAMESPACES:
		return &s->namespaces;
	case T_CONTAINERS:
		return &s->containers;
	case T_BLOBS:
		return &s->blobs;
	case T_CONTENT:
		return &s->content;
	case T_IMAGES:
		return &s->images;
	case T_SNAPSHOTS:
		return &s->snapshots;
	case T_LEASES:
		return &s->leases;
	default:
		return &s->resources;
	}
}

static int insert(struct salvage *s, enum table t, int64_t rowid, const struct salvage_value *v,
		  size_t n)
{
	sqlite3_stmt *q = db_statement(s->db, tables[t].insert, s->f);
	int r;

	if (!q)
		return db_fault(s->db, "write", s->f);
	for (size_t i = 0; i < n; i++) {
		int at = (int)i + 1;

		if (v[i].type == SALVAGE_INT)
			sqlite3_bind_int64(q, at, v[i].i);
		else if (v[i].type == SALVAGE_TEXT)
			db_bind_text(q, at, v[i].p);
		else if (v[i].type == SALVAGE_BLOB)
			db_bind_blob(q, at, v[i].p, v[i].size);
	}
	if (t == T_SNAPSHOTS)
		sqlite3_bind_int64(q, 1, rowid);
	r = db_run(s->db, q, "write", s->f);
	if (!r)
		*counter(s, t) += (uint64_t)sqlite3_changes64(s->db->sql);
	return r;
}

static int take(void *user, int64_t rowid, const struct salvage_value *v, size_t n)
{
	struct salvage *s = user;
	enum table t = table_of(v, n);
	int r;

	if (t >= TABLES)
		return 0;
	r = row_valid(t, v, true);
	if (r > 0 && t == T_SNAPSHOTS && rowid <= 0)
		r = 0;
	if (r < 0)
		return db_no_memory(s->f);
	if (r > 0)
		return insert(s, t, rowid, v, n);
	s->spoilt++;
	return 0;
}

int salvage_rows(struct salvage *s, struct salvage_pages *p)
{
	int r = salvage_records(p, take, s);

	return r == -ENOMEM ? db_no_memory(s->f) : r;
}

/* ---- rows of a database that can be opened */

static void value_of(sqlite3_stmt *q, int at, struct salvage_value *v)
{
	*v = (struct salvage_value){ 0 };
	switch (sqlite3_column_type(q, at)) {
	case SQLITE_INTEGER:
		v->type = SALVAGE_INT;
		v->i = sqlite3_column_int64(q, at);
		break;
	case SQLITE_TEXT:
		v->type = SALVAGE_TEXT;
		v->p = db_column_text(q, at);
		v->size = (size_t)sqlite3_column_bytes(q, at);
		break;
	case SQLITE_BLOB:
		v->type = SALVAGE_BLOB;
		v->p = sqlite3_column_blob(q, at);
		if (!v->p)
			v->p = ""; /* of no bytes */
		v->size = (size_t)sqlite3_column_bytes(q, at);
		break;
	case SQLITE_FLOAT:
		v->type = SALVAGE_REAL;
		break;
	default:
		break;
	}
}

static int check_table(struct db *db, enum table t, struct fault *f)
{
	sqlite3_stmt *q = NULL;
	size_t n = strlen(tables[t].columns);
	int r = 0, step;

	if (sqlite3_prepare_v2(db->sql, tables[t].select, -1, &q, NULL) != SQLITE_OK)
		return db_fault(db, "check", f);
	while (!r && (step = sqlite3_step(q)) != SQLITE_DONE) {
		struct salvage_value v[SALVAGE_COLUMNS] = { 0 };

		if (step != SQLITE_ROW) {
			r = db_fault(db, "check", f);
			break;
		}
		for (size_t i = 0; i < n; i++)
			value_of(q, (int)i, &v[i]);
		r = row_fits(t, v, n) ? row_valid(t, v, false) : 0;
		if (r > 0) {
			r = 0;
		} else if (!r) {
			fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				  "a row (%s) is not as it was written", tables[t].select);
			r = -EUCLEAN;
		} else {
			r = db_no_memory(f);
		}
	}
	sqlite3_finalize(q);
	return r;
}

int salvage_check_rows(struct db *db, struct fault *f)
{
	int r = 0;

	for (enum table t = 0; !r && t < TABLES; t++)
		r = check_table(db, t, f);
	return r;
}
