// SPDX-License-Identifier: Apache-2.0
/*
 * The fake criu: what is in its image files
 *
 * Most are bytes that can be told again from the name. Those that davit looks into before a restore are
 * as criu would write them for one task with a mount namespace of its own: magic words, then entries of
 * a length and a protobuf message (criu/include/magic.h, images/ of criu's sources).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_REAL ((size_t)-1) /* as size: as criu would write it */

struct fake_image {
	char name[256];
	size_t size;
	unsigned char data[160]; /* of a real one */
	bool real;
};

/* ---- protobuf */

struct fake_pb {
	unsigned char v[160];
	size_t n;
};

static inline void fake_pb_varint(struct fake_pb *b, uint64_t v)
{
	for (; v > 127; v >>= 7)
		b->v[b->n++] = (unsigned char)(v | 128);
	b->v[b->n++] = (unsigned char)v;
}

static inline void fake_pb_number(struct fake_pb *b, unsigned field, uint64_t v)
{
	fake_pb_varint(b, field << 3);
	fake_pb_varint(b, v);
}

static inline void fake_pb_bytes(struct fake_pb *b, unsigned field, const void *data, size_t n)
{
	fake_pb_varint(b, field << 3 | 2);
	fake_pb_varint(b, n);
	memcpy(b->v + b->n, data, n);
	b->n += n;
}

static inline void fake_pb_text(struct fake_pb *b, unsigned field, const char *text)
{
	fake_pb_bytes(b, field, text, strlen(text));
}

static inline void fake_pb_message(struct fake_pb *b, unsigned field, const struct fake_pb *m)
{
	fake_pb_bytes(b, field, m->v, m->n);
}

/* ---- the images */

/* task_kobj_ids_entry: four tables, then namespaces */
static inline struct fake_pb fake_ids(unsigned first)
{
	struct fake_pb b = { .n = 0 };

	for (unsigned i = 1; i <= 4; i++)
		fake_pb_number(&b, i, 1);
	for (unsigned i = 5; i <= 10; i++)
		fake_pb_number(&b, i, first + i);
	return b;
}

static inline struct fake_pb fake_inventory(void)
{
	struct fake_pb b = { .n = 0 }, ids = fake_ids(0);

	fake_pb_number(&b, 1, 2); /* img_version */
	fake_pb_number(&b, 2, 1); /* fdinfo_per_id */
	fake_pb_message(&b, 3, &ids);
	fake_pb_number(&b, 4, 1); /* ns_per_id */
	return b;
}

static inline struct fake_pb fake_pstree(void)
{
	struct fake_pb b = { .n = 0 };

	fake_pb_number(&b, 1, 1); /* pid */
	fake_pb_number(&b, 2, 0); /* ppid */
	fake_pb_number(&b, 3, 1); /* pgid */
	fake_pb_number(&b, 4, 1); /* sid */
	fake_pb_number(&b, 5, 1); /* threads */
	return b;
}

/* A task without capabilities, with no_new_privs and a seccomp filter: any spec may have that. */
static inline struct fake_pb fake_core(void)
{
	struct fake_pb b = { .n = 0 }, task = { .n = 0 }, thread = { .n = 0 }, creds = { .n = 0 };

	fake_pb_number(&task, 1, 1); /* alive */
	fake_pb_text(&task, 6, "restored");
	for (unsigned i = 1; i <= 8; i++)
		fake_pb_number(&creds, i, 0); /* ids */
	for (unsigned i = 9; i <= 12; i++) {
		fake_pb_number(&creds, i, 0); /* sets of capabilities, two words each */
		fake_pb_number(&creds, i, 0);
	}
	fake_pb_number(&creds, 18, 1);
	fake_pb_message(&thread, 10, &creds);
	fake_pb_number(&thread, 11, 2); /* seccomp: a filter, */
	fake_pb_number(&thread, 12, 0); /* the first of seccomp.img */
	fake_pb_number(&b, 1, 1); /* x86_64 */
	fake_pb_message(&b, 3, &task);
	fake_pb_message(&b, 5, &thread);
	return b;
}

static inline struct fake_pb fake_mountpoints(void)
{
	struct fake_pb b = { .n = 0 };

	fake_pb_number(&b, 1, 0); /* fstype */
	fake_pb_number(&b, 2, 100); /* mnt_id */
	fake_pb_number(&b, 3, 65024); /* root_dev */
	fake_pb_number(&b, 4, 99); /* parent_mnt_id */
	fake_pb_number(&b, 5, 0); /* flags */
	fake_pb_text(&b, 6, "/"); /* root */
	fake_pb_text(&b, 7, "/"); /* mountpoint */
	fake_pb_text(&b, 8, "none"); /* source */
	fake_pb_text(&b, 9, ""); /* options */
	return b;
}

/* One filter, which every thread has: return SECCOMP_RET_ALLOW. */
static inline struct fake_pb fake_seccomp(void)
{
	static const unsigned char allow[] = { 6, 0, 0, 0, 0, 0, 0xff, 0x7f };
	struct fake_pb b = { .n = 0 }, filter = { .n = 0 };

	fake_pb_bytes(&filter, 1, allow, sizeof(allow));
	fake_pb_number(&filter, 3, 1);
	fake_pb_message(&b, 1, &filter);
	return b;
}

static inline void fake_make_real(struct fake_image *i)
{
	uint32_t magic, common = 0x54564319, length;
	struct fake_pb m;

	if (!strcmp(i->name, "inventory.img")) {
		magic = 0x58313116;
		common = 0;
		m = fake_inventory();
	} else if (!strcmp(i->name, "pstree.img")) {
		magic = 0x50273030;
		m = fake_pstree();
	} else if (!strcmp(i->name, "core-1.img")) {
		magic = 0x55053847;
		m = fake_core();
	} else if (!strcmp(i->name, "ids-1.img")) {
		magic = 0x54432030;
		m = fake_ids(20);
	} else if (!strcmp(i->name, "seccomp.img")) {
		magic = 0x64413049;
		m = fake_seccomp();
	} else {
		magic = 0x55563928;
		m = fake_mountpoints();
	}
	i->real = true;
	i->size = 0;
	for (int k = common ? 0 : 1; k < 2; k++) {
		memcpy(i->data + i->size, k ? &magic : &common, 4);
		i->size += 4;
	}
	length = (uint32_t)m.n;
	memcpy(i->data + i->size, &length, 4);
	memcpy(i->data + i->size + 4, m.v, m.n);
	i->size += 4 + m.n;
	if (i->size > sizeof(i->data))
		abort();
}

/* Eight bytes of another. Half of it compresses well, as memory does. */
static inline uint64_t fake_word(const char *name, size_t n, size_t word)
{
	uint64_t x = word + ((uint64_t)n << 40) + ((uint64_t)(unsigned char)name[0] << 48) +
		     ((uint64_t)(unsigned char)name[n / 2] << 56);

	if (word / 512 % 2)
		return 0x6576696c61206120u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Within its size. */
static inline void fake_fill(const struct fake_image *i, size_t at, unsigned char *out, size_t n)
{
	size_t length = strlen(i->name);

	if (i->real) {
		memcpy(out, i->data + at, n);
		return;
	}
	while (n) {
		uint64_t word = fake_word(i->name, length, at / 8);
		size_t skip = at % 8, some = 8 - skip < n ? 8 - skip : n;

		memcpy(out, (unsigned char *)&word + skip, some);
		out += some;
		at += some;
		n -= some;
	}
}
