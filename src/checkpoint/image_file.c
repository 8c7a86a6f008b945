// SPDX-License-Identifier: Apache-2.0
/*
 * criu's image files
 *
 * A file is one or two magic words and then entries, each a u32 length in native byte order and a
 * protobuf. criu reads them with protobuf-c. What is checked here and read there must not be two
 * things, so whatever protobuf-c could take in another way is refused: overlong tags (it drops their
 * upper bits), numbers that are cut to 32 bits, texts with a NUL inside. Who looks at a field that
 * may be there once refuses it twice, since protobuf-c takes the last one of numbers and merges
 * messages.
 */
#include "checkpoint/image_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/frames.h"
#include "util/cleanup.h"
#include "util/limits.h"

/* ---- protobuf */

static bool varint(struct pb *m, size_t most, uint64_t *v)
{
	*v = 0;
	for (unsigned i = 0; m->p < m->end && i < most; i++) {
		uint8_t byte = *m->p++;

		/* the tenth byte has one bit */
		if (i == 9 && byte > 1)
			return false;
		*v |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

int pb_next(struct pb *m, struct pb_field *field)
{
	uint64_t key, n;

	if (m->p == m->end)
		return 0;
	if (!varint(m, 5, &key) || key > UINT32_MAX || !(key >> 3))
		return -EBADMSG;
	*field = (struct pb_field){ .number = (uint32_t)(key >> 3) };
	switch (key & 7) {
	case 0:
		return varint(m, 10, &field->value) ? 1 : -EBADMSG;
	case 1:
		n = 8;
		break;
	case 2:
		if (!varint(m, 5, &n))
			return -EBADMSG;
		break;
	case 5:
		n = 4;
		break;
	default: /* groups, which protobuf-c has not either */
		return -EBADMSG;
	}
	if (n > (uint64_t)(m->end - m->p))
		return -EBADMSG;
	field->is_bytes = true;
	field->data = m->p;
	field->size = (size_t)n;
	m->p += n;
	return 1;
}

int pb_u32(const struct pb_field *field, uint32_t *out)
{
	if (field->is_bytes || field->value > UINT32_MAX)
		return -EBADMSG;
	*out = (uint32_t)field->value;
	return 0;
}

int pb_text(const struct pb_field *field, const char **text, size_t *n)
{
	if (!field->is_bytes || memchr(field->data, '\0', field->size))
		return -EBADMSG;
	*text = (const char *)field->data;
	*n = field->size;
	return 0;
}

struct pb pb_message(const struct pb_field *field)
{
	return (struct pb){ field->data, field->data + field->size };
}

/* ---- the file's bytes */

int img_damaged(const struct img *img, const char *why)
{
	fault_set(img->f, FAULT_FAILED_PRECONDITION, 0,
		  "the checkpoint's image file %s is damaged: %s", img->name, why);
	return -EBADMSG;
}

static int read_at(const struct img *img, int fd, void *data, size_t size, uint64_t at)
{
	uint8_t *p = data;

	while (size) {
		ssize_t n = pread(fd, p, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_sys(img->f, errno, "read", img->name);
		if (!n)
			return img_damaged(img, "it is shorter than it was");
		p += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int unpack(const struct img *img, const struct serve_part *part, uint8_t *to)
{
	CLEANUP_FREE void *packed = malloc(FRAME_PACKED_MOST);
	struct frame_codec *codec = NULL;
	int r = packed ? frame_codec_new(&codec, 1) : -ENOMEM;

	for (size_t i = 0; !r && i < part->table.n; i++) {
		const struct frame_place *frame = &part->table.v[i];

		r = read_at(img, part->fd, packed, frame->packed, frame->at);
		if (!r)
			r = frame_unpack(codec, packed, frame->packed, to + frame->offset,
					 frame->size);
		if (r == -EBADMSG)
			r = img_damaged(img, "a frame cannot be unpacked");
	}
	frame_codec_free(codec);
	return r == -ENOMEM ? fault_sys(img->f, ENOMEM, "read", img->name) : r;
}

static int load(struct img *img, const struct serve_file *file)
{
	uint64_t size = 0;
	uint8_t *to;
	int r = 0;

	if (file->n_parts == 1 && file->parts[0].fd < 0) {
		img->data = file->parts[0].data;
		img->size = (size_t)file->parts[0].size;
		return 0;
	}
	for (size_t i = 0; i < file->n_parts; i++) {
		if (file->parts[i].size > LIMIT_CHECKPOINT_FILES_BYTES - size)
			return img_damaged(img, "it is larger than such a file may be");
		size += file->parts[i].size;
	}
	to = img->owned = malloc((size_t)size + 1);
	if (!to)
		return fault_sys(img->f, ENOMEM, "read", img->name);
	img->data = to;
	img->size = (size_t)size;
	for (size_t i = 0; !r && i < file->n_parts; i++) {
		const struct serve_part *part = &file->parts[i];

		if (part->fd < 0)
			memcpy(to, part->data, (size_t)part->size);
		else if (part->packed)
			r = unpack(img, part, to);
		else
			r = read_at(img, part->fd, to, (size_t)part->size, 0);
		to += part->size;
	}
	return r;
}

/* ---- magic words and entries */

static bool take_word(struct img *img, uint32_t *word)
{
	if (img->size - img->at < sizeof(*word))
		return false;
	memcpy(word, img->data + img->at, sizeof(*word));
	img->at += sizeof(*word);
	return true;
}

static int check_magic(struct img *img, uint32_t common, uint32_t magic)
{
	uint32_t word;

	if (common && (!take_word(img, &word) || word != common))
		return img_damaged(img, "it does not begin as criu's images do");
	if (!take_word(img, &word) || word != magic)
		return img_damaged(img, "it holds something else than its name says");
	return 0;
}

int img_open(struct img *img, const struct serve_file *file, uint32_t common, uint32_t magic,
	     struct fault *f)
{
	int r;

	*img = (struct img){ .name = file->name, .f = f };
	r = load(img, file);
	if (!r)
		r = check_magic(img, common, magic);
	if (r < 0)
		img_close(img);
	return r;
}

int img_open_data(struct img *img, const char *name, const void *data, size_t size, uint32_t common,
		  uint32_t magic, struct fault *f)
{
	*img = (struct img){ .name = name, .f = f, .data = data, .size = size };
	return check_magic(img, common, magic);
}

int img_next(struct img *img, struct pb *entry)
{
	uint32_t size;

	if (img->at == img->size)
		return 0;
	if (!take_word(img, &size) || size > img->size - img->at)
		return img_damaged(img, "it is cut off");
	entry->p = img->data + img->at;
	entry->end = entry->p + size;
	img->at += size;
	return 1;
}

int img_one(struct img *img, struct pb *entry)
{
	struct pb more;
	int r = img_next(img, entry);

	if (!r)
		return img_damaged(img, "it is empty");
	r = r < 0 ? r : img_next(img, &more);
	return r > 0 ? img_damaged(img, "it has more than one entry") : r;
}

void img_close(struct img *img)
{
	free(img->owned);
	img->owned = NULL;
}
