// SPDX-License-Identifier: Apache-2.0
/*
 * Digests: "sha256:HEX", and hashing
 *
 * OCI image-spec, descriptor.md: an algorithm, a colon, the encoded hash. Only sha256 is made and
 * taken here; sha512 is well-formed but refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_HEX 64
#define DIGEST_TEXT (7 + DIGEST_HEX + 1) /* "sha256:", hex digits, NUL */

struct digest {
	char text[DIGEST_TEXT]; /* "" for none */
};

/* Whether text[0..n) is "sha256:" and 64 lower case hex digits. */
bool digest_valid_n(const char *text, size_t n);
bool digest_valid(const char *text); /* NULL is not */
/* -EINVAL when it is not valid. */
int digest_parse(const char *text, struct digest *out);
static inline const char *digest_hex(const struct digest *d) /* behind the colon */
{
	return d->text + 7;
}

/* A running hash. Belongs to one thread at a time. */
struct hasher;
int hasher_new(struct hasher **out); /* -ENOMEM */
void hasher_free(struct hasher *h); /* may be NULL */
void hasher_reset(struct hasher *h);
void hasher_add(struct hasher *h, const void *data, size_t size);
/* Of all that was added so far; more may be added afterwards. -ENOMEM */
int hasher_digest(const struct hasher *h, struct digest *out);

/* In one go. */
int digest_of(const void *data, size_t size, struct digest *out);
/*
 * From the fd's start to its end by pread, in pieces of 1 MiB; *size (may be NULL) is how many
 * bytes there were. cancelled may be NULL; when it becomes true: -ECANCELED. -errno. Blocks.
 */
struct cancel;
int digest_of_fd(int fd, struct digest *out, uint64_t *size, const struct cancel *cancelled);
