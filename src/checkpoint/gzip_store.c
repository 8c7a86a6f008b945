// SPDX-License-Identifier: Apache-2.0
/*
 * gzip of stored blocks (RFC 1951, 3.2.4; RFC 1952)
 *
 * A block for whatever a read has given. The check sum takes eight bytes a step, from tables
 * that are made at the start (some microseconds).
 */
#include "checkpoint/gzip_store.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/fd.h"

#define BLOCK 65535u /* the most that a stored block holds */
#define BLOCK_HEAD 5u
#define PIPE_BYTES (1 << 20)
#define POLYNOMIAL 0xedb88320u /* reflected */

static void make_tables(uint32_t t[8][256])
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
		t[0][i] = c;
	}
	for (int k = 1; k < 8; k++)
		for (uint32_t i = 0; i < 256; i++)
			t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 0xff];
}

static uint32_t add_up(uint32_t t[8][256], uint32_t crc, const unsigned char *p, size_t n)
{
	crc = ~crc;
	for (; n >= 8; n -= 8, p += 8) {
		uint64_t w;

		memcpy(&w, p, sizeof(w));
		w = le64toh(w) ^ crc;
		crc = t[7][w & 0xff] ^ t[6][w >> 8 & 0xff] ^ t[5][w >> 16 & 0xff] ^
		      t[4][w >> 24 & 0xff] ^ t[3][w >> 32 & 0xff] ^ t[2][w >> 40 & 0xff] ^
		      t[1][w >> 48 & 0xff] ^ t[0][w >> 56];
	}
	while (n--)
		crc = crc >> 8 ^ t[0][(crc ^ *p++) & 0xff];
	return ~crc;
}

static void put16(unsigned char *to, uint32_t v)
{
	to[0] = (unsigned char)v;
	to[1] = (unsigned char)(v >> 8);
}

static void put_head(unsigned char *to, bool last, uint32_t size)
{
	to[0] = last;
	put16(to + 1, size);
	put16(to + 3, ~size);
}

int gzip_store(int in, int out)
{
	static const unsigned char head[10] = { 0x1f, 0x8b, 8, [9] = 255 /* no system */ };
	unsigned char block[BLOCK_HEAD + BLOCK], end[BLOCK_HEAD + 8];
	uint32_t tables[8][256], crc = 0, size = 0;
	int r = fd_write_all(out, head, sizeof(head));

	make_tables(tables);
	while (!r) {
		ssize_t n = read(in, block + BLOCK_HEAD, BLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		crc = add_up(tables, crc, block + BLOCK_HEAD, (size_t)n);
		size += (uint32_t)n; /* modulo 2^32 */
		put_head(block, false, (uint32_t)n);
		r = fd_write_all(out, block, BLOCK_HEAD + (size_t)n);
	}
	if (r < 0)
		return r;
	put_head(end, true, 0);
	put16(end + BLOCK_HEAD, crc);
	put16(end + BLOCK_HEAD + 2, crc >> 16);
	put16(end + BLOCK_HEAD + 4, size);
	put16(end + BLOCK_HEAD + 6, size >> 16);
	return fd_write_all(out, end, sizeof(end));
}

bool gzip_store_is(const char *name)
{
	const char *slash = name ? strrchr(name, '/') : NULL;

	return name && !strcmp(slash ? slash + 1 : name, GZIP_STORE_NAME);
}

int gzip_store_main(int argc)
{
	int r;

	if (argc != 1) {
		fprintf(stderr, "gzip: criu's tar only packs, and gives no options\n");
		return 2;
	}
	/* where they are pipes: fewer turns */
	(void)fcntl(STDIN_FILENO, F_SETPIPE_SZ, PIPE_BYTES);
	(void)fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE_BYTES);
	r = gzip_store(STDIN_FILENO, STDOUT_FILENO);
	if (r < 0)
		fprintf(stderr, "gzip: %s\n", strerror(-r));
	return r < 0 ? 1 : 0;
}
