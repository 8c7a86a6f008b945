// SPDX-License-Identifier: Apache-2.0
/*
 * The terminal in criu's images
 *
 * images/tty.proto: of each entry, member 2 is the type, 6 the session that it controls, 8 the device's number, 12 what only a pty
 * has, 13 the number of the file system it was found in. The type is one byte in any encoding and is
 * written over; the member that an external terminal must not have is cut out.
 */
#include "checkpoint/tty_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/image_file.h"

#define IMG_TTY_INFO 0x59453036u

enum tty_type { TTY_PTY = 1, TTY_EXTERNAL = 5 };
enum { F_TYPE = 2, F_SID = 6, F_RDEV = 8, F_PTY = 12, F_DEV = 13 };

/* Where in its entry the two members stand that have to change. */
struct place {
	size_t type; /* of the value's byte */
	uint32_t sid;
	size_t pty, pty_size; /* of the whole member; size 0: there is none */
};

/* 1: it is the terminal. */
static int look(struct img *img, struct pb *entry, uint32_t rdev, uint32_t dev, struct place *place)
{
	uint32_t type = 0, its_rdev = 0, its_dev = 0;
	const uint8_t *begin = entry->p, *before = begin;
	struct pb_field field;
	int r;

	*place = (struct place){ 0 };
	while ((r = pb_next(entry, &field)) > 0) {
		if (field.number == F_TYPE) {
			r = pb_u32(&field, &type);
			place->type = (size_t)(entry->p - begin) - 1;
		} else if (field.number == F_SID) {
			r = pb_u32(&field, &place->sid);
		} else if (field.number == F_RDEV) {
			r = pb_u32(&field, &its_rdev);
		} else if (field.number == F_DEV) {
			r = pb_u32(&field, &its_dev);
		} else if (field.number == F_PTY) {
			place->pty = (size_t)(before - begin);
			place->pty_size = (size_t)(entry->p - before);
		}
		before = entry->p;
		if (r < 0)
			break;
	}
	if (r < 0)
		return img_damaged(img, "an entry is no terminal");
	return type == TTY_PTY && its_rdev == rdev && its_dev == dev;
}

/* The entry's bytes begin at `at` of the part, behind its size. */
static void turn(struct serve_part *part, size_t at, const struct place *place)
{
	uint8_t *entry = (uint8_t *)part->data + at;
	size_t behind = at + place->pty + place->pty_size;
	uint32_t size;

	entry[place->type] = TTY_EXTERNAL;
	if (!place->pty_size)
		return;
	memcpy(&size, entry - sizeof(size), sizeof(size));
	size -= (uint32_t)place->pty_size;
	memcpy(entry - sizeof(size), &size, sizeof(size));
	memmove(entry + place->pty, (uint8_t *)part->data + behind, part->size - behind);
	part->size -= place->pty_size;
}

static int hand_in(struct serve_part *part, const char *name, uint32_t rdev, uint32_t dev,
		   uint32_t *sid, struct fault *f)
{
	struct place place;
	struct pb entry;
	struct img img;
	int r, n = 0;

	r = img_open_data(&img, name, part->data, part->size, IMG_COMMON_MAGIC, IMG_TTY_INFO, f);
	if (r < 0)
		return r;
	while ((r = img_next(&img, &entry)) > 0) {
		size_t at = (size_t)(entry.p - img.data);

		r = look(&img, &entry, rdev, dev, &place);
		if (r < 0)
			break;
		if (!r)
			continue;
		*sid = place.sid ? place.sid : *sid;
		turn(part, at, &place);
		img.at -= place.pty_size;
		img.size = part->size;
		n++;
	}
	img_close(&img);
	return r < 0 ? r : n;
}

int tty_image_hand_in(struct serve_files *files, const char *key, uint32_t *sid, struct fault *f)
{
	struct serve_file *file = NULL;
	unsigned long rdev, dev;
	char *end;

	*sid = 0;
	rdev = strtoul(key, &end, 16);
	if (*end++ != ':')
		return fault_set(f, FAULT_FAILED_PRECONDITION, EINVAL,
				 "the checkpoint's terminal is \"%s\", which is none", key);
	dev = strtoul(end, &end, 16);
	for (size_t i = 0; i < files->n; i++)
		if (!strcmp(files->v[i].name, "tty-info.img"))
			file = &files->v[i];
	if (*end || !file)
		return 0;
	if (file->n_parts != 1 || !file->parts[0].data)
		return fault_set(f, FAULT_FAILED_PRECONDITION, EBADMSG,
				 "the checkpoint's tty-info.img is too large to be one");
	return hand_in(&file->parts[0], file->name, (uint32_t)rdev, (uint32_t)dev, sid, f);
}
