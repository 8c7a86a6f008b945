// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database: records, from whatever pages there are
 *
 * Trees are not walked: a page that cannot be read would hide all that hang below it. Each page of
 * the file, in its newest version (db_salvage_wal.c), is looked at by itself
 * (https://www.sqlite.org/fileformat2.html#b_tree_pages): a leaf of a table, or a page of an index,
 * whose entries are records too, since tables WITHOUT ROWID are kept in indexes. What a record is
 * of is told by its columns (db_salvage_rows.c). Pages on the list of free ones are left out as far
 * as that list can be read; Debian's SQLite overwrites them anyway.
 *
 * A file that is not there (-1) has no pages. Nothing here trusts a number of the file: every offset is checked against the page, chains of
 * overflow pages end after as many as the length needs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/db_salvage_internal.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define PAGE_DEFAULT 4096u
#define MAGIC "SQLite format 3"
#define TABLE_LEAF 0x0d
#define INDEX_LEAF 0x0a
#define INDEX_INNER 0x02
/* the largest record: labels, a spec and extensions */
#define RECORD_MAX (LIMIT_SPEC_BYTES + LIMIT_EXTENSIONS_BYTES + LIMIT_LABELS * LIMIT_LABEL_BYTES)

struct reader {
	struct salvage_pages *p;
	uint8_t *page, *other; /* other: of overflow pages */
	char *record, *texts; /* texts: the columns' bytes, each followed by NUL */
	size_t room;
	int (*fn)(void *user, int64_t rowid, const struct salvage_value *v, size_t n);
	void *user;
};

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Bytes used, 0 when it does not end within n. */
static size_t varint(const uint8_t *p, size_t n, uint64_t *v)
{
	*v = 0;
	for (size_t i = 0; i < 9 && i < n; i++) {
		if (i == 8) {
			*v = *v << 8 | p[i];
			return 9;
		}
		*v = *v << 7 | (p[i] & 0x7f);
		if (!(p[i] & 0x80))
			return i + 1;
	}
	return 0;
}

/* ---- pages */

/* What is missing at the end of the file is zero. */
static int read_page(const struct salvage_pages *p, uint32_t no, uint8_t *to)
{
	int64_t at = p->in_wal[no - 1];
	int fd = at ? p->wal->fd : p->fd;
	size_t n = 0;

	if (!at)
		at = (int64_t)(no - 1) * p->page_size;
	while (n < p->page_size) {
		ssize_t got = pread(fd, to + n, p->page_size - n, at + (int64_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		/* a disk that cannot read this page may read the others */
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	memset(to + n, 0, p->page_size - n);
	return 0;
}

static int note_frame(void *user, uint32_t page, int64_t at)
{
	struct salvage_pages *p = user;

	if (page <= p->n)
		p->in_wal[page - 1] = at;
	return 0;
}

/* The list: each trunk page has the next one's number, a count, and the numbers of free pages. */
static void find_unused(struct salvage_pages *p, uint8_t *page, uint32_t trunk)
{
	for (uint32_t guard = 0; trunk && trunk <= p->n && guard < p->n; guard++) {
		uint32_t count;

		if (p->unused[trunk - 1] || read_page(p, trunk, page) < 0)
			return;
		count = be32(page + 4);
		if (count > p->usable / 4 - 2)
			return;
		p->unused[trunk - 1] = 1;
		for (uint32_t i = 0; i < count; i++) {
			uint32_t no = be32(page + 8 + 4 * i);

			if (no && no <= p->n)
				p->unused[no - 1] = 1;
		}
		trunk = be32(page);
	}
}

static bool header_valid(const uint8_t *page)
{
	uint32_t size = be16(page + 16);

	return !memcmp(page, MAGIC, sizeof(MAGIC)) &&
	       (size == 1 || (size >= 512 && !(size & (size - 1)))) && page[20] <= 32;
}

int salvage_pages_open(struct salvage_pages *p, int fd, struct salvage_wal *wal)
{
	CLEANUP_FREE uint8_t *page = calloc(1, 65536);
	uint64_t pages;
	struct stat st;
	int r;

	memset(p, 0, sizeof(*p));
	p->fd = fd;
	p->wal = wal;
	if (!page)
		return -ENOMEM;
	if (fd < 0)
		st.st_size = 0;
	else if (fstat(fd, &st) < 0)
		return -errno;
	p->page_size = wal->page_size ? wal->page_size : PAGE_DEFAULT;
	if (pread(fd, page, 100, 0) == 100 && header_valid(page))
		p->page_size = be16(page + 16) == 1 ? 65536 : be16(page + 16);
	if (wal->page_size != p->page_size)
		wal->frames = 0;
	pages = ((uint64_t)st.st_size + p->page_size - 1) / p->page_size + wal->frames;
	if (pages > UINT32_MAX - 1)
		return -EFBIG;
	p->n = (uint32_t)pages;
	p->in_wal = calloc(p->n + 1u, sizeof(*p->in_wal));
	p->unused = calloc(p->n + 1u, 1);
	if (!p->in_wal || !p->unused)
		return -ENOMEM;
	r = salvage_wal_each(wal, note_frame, p);
	if (r < 0 || !p->n)
		return r;
	r = read_page(p, 1, page);
	if (r < 0)
		return r;
	p->usable = p->page_size;
	if (header_valid(page)) {
		p->usable -= page[20];
		find_unused(p, page, be32(page + 32));
	}
	return 0;
}

void salvage_pages_close(struct salvage_pages *p)
{
	free(p->in_wal);
	free(p->unused);
	p->in_wal = NULL;
	p->unused = NULL;
}

bool salvage_header(const struct salvage_pages *p, uint32_t *application, uint32_t *version)
{
	CLEANUP_FREE uint8_t *page = malloc(p->page_size);

	if (!page || !p->n || read_page(p, 1, page) < 0 || !header_valid(page))
		return false;
	*application = be32(page + 68);
	*version = be32(page + 60);
	return true;
}

/* ---- records */

static int grow(struct reader *r, size_t size)
{
	if (size <= r->room)
		return 0;
	free(r->record);
	free(r->texts);
	r->record = malloc(size);
	r->texts = malloc(size + SALVAGE_COLUMNS);
	r->room = r->record && r->texts ? size : 0;
	return r->room ? 0 : -ENOMEM;
}

static int64_t integer(const uint8_t *p, size_t n)
{
	uint64_t v = n && p[0] & 0x80 ? UINT64_MAX : 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return (int64_t)v;
}

/* 1: the columns, 0: it is not whole */
static int columns(struct reader *r, const uint8_t *p, size_t size, struct salvage_value *v,
		   size_t *n)
{
	uint64_t header, type;
	size_t at = varint(p, size, &header), body, texts = 0, used;

	*n = 0;
	if (!at || header > size || header < at)
		return 0;
	for (body = header; at < header; at += used) {
		struct salvage_value *c = &v[*n];
		static const uint8_t lengths[] = { 0, 1, 2, 3, 4, 6, 8, 8, 0, 0 };
		size_t length;

		used = varint(p + at, header - at, &type);
		if (!used || *n == SALVAGE_COLUMNS || type == 10 || type == 11)
			return 0;
		length = type < 12 ? lengths[type] : type / 2 - 6 <= size ? type / 2 - 6 : SIZE_MAX;
		if (length > size - body)
			return 0;
		memset(c, 0, sizeof(*c));
		if (type >= 12) {
			c->type = type & 1 ? SALVAGE_TEXT : SALVAGE_BLOB;
			c->p = r->texts + texts;
			c->size = length;
			memcpy(r->texts + texts, p + body, length);
			r->texts[texts + length] = '\0';
			texts += length + 1;
			if (c->type == SALVAGE_TEXT && memchr(c->p, '\0', length))
				return 0;
		} else if (type == 7) {
			c->type = SALVAGE_REAL;
		} else if (type) {
			c->type = SALVAGE_INT;
			c->i = type >= 8 ? (int64_t)type - 8 : integer(p + body, length);
		}
		body += length;
		++*n;
	}
	return at == header && body == size;
}

/* How much of a record of `size` bytes is on the page itself. */
static size_t local(const struct salvage_pages *p, bool table, size_t size)
{
	size_t u = p->usable, most = table ? u - 35 : (u - 12) * 64 / 255 - 23,
	       least = (u - 12) * 32 / 255 - 23, k;

	if (size <= most)
		return size;
	k = least + (size - least) % (u - 4);
	return k <= most ? k : least;
}

/* 1: all of it is in r->record */
static int gather(struct reader *r, const uint8_t *cell, size_t left, bool table, size_t size)
{
	const struct salvage_pages *p = r->p;
	size_t n = local(p, table, size);
	uint32_t next = 0;

	if (!size || size > RECORD_MAX || n + (n < size ? 4 : 0) > left)
		return 0;
	if (grow(r, size) < 0)
		return -ENOMEM;
	memcpy(r->record, cell, n);
	if (n < size)
		next = be32(cell + n);
	while (n < size) {
		size_t part = size - n < p->usable - 4 ? size - n : p->usable - 4;

		if (!next || next > p->n || p->unused[next - 1] || read_page(p, next, r->other) < 0)
			return 0;
		memcpy(r->record + n, r->other + 4, part);
		n += part;
		next = be32(r->other);
	}
	return 1;
}

static int cell(struct reader *r, uint8_t type, size_t at)
{
	struct salvage_value v[SALVAGE_COLUMNS];
	const uint8_t *page = r->page;
	size_t end = r->p->usable, used, n;
	uint64_t size, rowid = 0;
	int e;

	if (type == INDEX_INNER)
		at += 4;
	if (at >= end)
		return 0;
	used = varint(page + at, end - at, &size);
	at += used;
	if (!used || size > RECORD_MAX || at >= end)
		return 0;
	if (type == TABLE_LEAF) {
		used = varint(page + at, end - at, &rowid);
		at += used;
		if (!used || at > end)
			return 0;
	}
	e = gather(r, page + at, end - at, type == TABLE_LEAF, (size_t)size);
	if (e > 0)
		e = columns(r, (const uint8_t *)r->record, (size_t)size, v, &n);
	if (e <= 0)
		return e;
	e = r->fn(r->user, (int64_t)rowid, v, n);
	return e < 0 ? e : 1;
}

static int page_records(struct reader *r, uint32_t no)
{
	size_t head = no == 1 ? 100 : 0, cells, first;
	uint8_t type = r->page[head];

	if (type != TABLE_LEAF && type != INDEX_LEAF && type != INDEX_INNER)
		return 0;
	cells = be16(r->page + head + 3);
	first = head + (type == INDEX_INNER ? 12 : 8);
	if (first + 2 * cells > r->p->usable) {
		r->p->unreadable++;
		return 0;
	}
	for (size_t i = 0; i < cells; i++) {
		size_t at = be16(r->page + first + 2 * i);
		int e = at < first + 2 * cells || at >= r->p->usable ? 0 : cell(r, type, at);

		if (e < 0)
			return e;
		r->p->unreadable += !e;
	}
	return 0;
}

int salvage_records(struct salvage_pages *p,
		    int (*fn)(void *user, int64_t rowid, const struct salvage_value *v, size_t n),
		    void *user)
{
	struct reader r = { .p = p, .fn = fn, .user = user };
	int e = 0;

	r.page = calloc(1, 65536);
	r.other = calloc(1, 65536);
	if (!r.page || !r.other)
		e = -ENOMEM;
	for (uint32_t no = 1; !e && no <= p->n; no++) {
		if (p->unused[no - 1])
			continue;
		e = read_page(p, no, r.page);
		if (!e)
			e = page_records(&r, no);
	}
	free(r.page);
	free(r.other);
	free(r.record);
	free(r.texts);
	return e;
}
