// SPDX-License-Identifier: Apache-2.0
/*
 * Digests and hashing
 *
 * libcrypto's SHA-256, which uses the CPU's instructions for it where there are some. A failure
 * inside libcrypto can only be a lack of memory; a hasher remembers it, and says so when its digest
 * is asked for, so that adding needs no check.
 */
#include "util/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cancel.h"
#include "util/cleanup.h"

#define PREFIX "sha256:"
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define READ_BYTES (1u << 20)

struct hasher {
	EVP_MD_CTX *ctx;
	bool failed;
};

bool digest_valid_n(const char *text, size_t n)
{
	if (n != PREFIX_SIZE + DIGEST_HEX || memcmp(text, PREFIX, PREFIX_SIZE))
		return false;
	for (size_t i = PREFIX_SIZE; i < n; i++)
		if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
	return true;
}

bool digest_valid(const char *text)
{
	return text && digest_valid_n(text, strnlen(text, DIGEST_TEXT));
}

int digest_parse(const char *text, struct digest *out)
{
	if (!digest_valid(text))
		return -EINVAL;
	memcpy(out->text, text, DIGEST_TEXT);
	return 0;
}

static void write_text(const unsigned char *hash, struct digest *out)
{
	static const char hex[] = "0123456789abcdef";
	char *p = out->text + PREFIX_SIZE;

	memcpy(out->text, PREFIX, PREFIX_SIZE);
	for (size_t i = 0; i < DIGEST_HEX / 2; i++) {
		*p++ = hex[hash[i] >> 4];
		*p++ = hex[hash[i] & 15];
	}
	*p = '\0';
}

int hasher_new(struct hasher **out)
{
	struct hasher *h = calloc(1, sizeof(*h));

	*out = NULL;
	if (!h)
		return -ENOMEM;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx) {
		free(h);
		return -ENOMEM;
	}
	hasher_reset(h);
	if (h->failed) {
		hasher_free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

void hasher_reset(struct hasher *h)
{
	h->failed = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1;
}

void hasher_add(struct hasher *h, const void *data, size_t size)
{
	if (!h->failed && EVP_DigestUpdate(h->ctx, data, size) != 1)
		h->failed = true;
}

int hasher_digest(const struct hasher *h, struct digest *out)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *copy;
	bool ok;

	if (h->failed)
		return -ENOMEM;
	/* finishing ends a context, and more may be added to this one */
	copy = EVP_MD_CTX_new();
	if (!copy)
		return -ENOMEM;
	ok = EVP_MD_CTX_copy_ex(copy, h->ctx) == 1 && EVP_DigestFinal_ex(copy, hash, NULL) == 1;
	EVP_MD_CTX_free(copy);
	if (!ok)
		return -ENOMEM;
	write_text(hash, out);
	return 0;
}

int digest_of(const void *data, size_t size, struct digest *out)
{
	unsigned char hash[EVP_MAX_MD_SIZE];

	if (EVP_Digest(data, size, hash, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	write_text(hash, out);
	return 0;
}

int digest_of_fd(int fd, struct digest *out, uint64_t *size, const struct cancel *stop)
{
	CLEANUP_FREE char *buf = malloc(READ_BYTES);
	struct hasher *h;
	uint64_t at = 0;
	int r;

	if (!buf)
		return -ENOMEM;
	r = hasher_new(&h);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n;

		if (cancelled(stop)) {
			r = -ECANCELED;
			break;
		}
		n = pread(fd, buf, READ_BYTES, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : hasher_digest(h, out);
			break;
		}
		hasher_add(h, buf, (size_t)n);
		at += (uint64_t)n;
	}
	hasher_free(h);
	if (!r && size)
		*size = at;
	return r;
}
