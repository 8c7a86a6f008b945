// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints: the record, the tar of small images, and the images themselves
 *
 * The first byte chooses. A record that is taken writes itself to what is taken again, the same. A tar
 * that is taken holds only files with good names, each once. Images: a dump that is good but for one
 * file; whatever is in that one, a check ends, and says why it refuses.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"
#include "checkpoint/images_check.h"
#include "checkpoint/record.h"
#include "checkpoint/stats_dump.h"
#include "checkpoint/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int what)
{
	if (!what)
		abort();
}

static void refused(const struct fault *f)
{
	require(f->code != FAULT_NONE && f->message[0]);
}

static void record(const uint8_t *data, size_t size)
{
	struct ckpt_record r, again;
	struct fault f = { 0 };
	char *text, *twice;
	size_t n, m;

	if (ckpt_record_read(&r, (const char *)data, size, &f) < 0) {
		refused(&f);
		return;
	}
	require(!ckpt_record_write(&r, &text, &n));
	require(!ckpt_record_read(&again, text, n, &f));
	require(!ckpt_record_write(&again, &twice, &m));
	require(n == m && !memcmp(text, twice, n));
	free(text);
	free(twice);
	ckpt_record_clear(&r);
	ckpt_record_clear(&again);
}

static void tar(const uint8_t *data, size_t size)
{
	struct serve_files files = { 0 };
	struct fault f = { 0 };
	int fd = memfd_create("tar", MFD_CLOEXEC);

	require(fd >= 0 && write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	if (ckpt_files_tar(&files, fd, "sha256:0", &f) < 0)
		refused(&f);
	else
		for (size_t i = 0; i < files.n; i++) {
			require(wire_name_valid(files.v[i].name, strlen(files.v[i].name)));
			require(!i || strcmp(files.v[i - 1].name, files.v[i].name) < 0);
		}
	serve_files_clear(&files);
	close(fd);
}

/* As short as they can be. */
static const uint8_t inventory[] = { 0x16, 0x31, 0x31, 0x58, 10,   0,	 0,    0,    0x08,
				     0x02, 0x1a, 0x06, 0x28, 0x01, 0x48, 0x06, 0x50, 0x07 };
static const uint8_t ids[] = { 0x19, 0x43, 0x56, 0x54, 0x30, 0x20, 0x43, 0x54, 6,
			       0,    0,	   0,	 0x28, 0x09, 0x48, 0x0d, 0x50, 0x07 };
static const uint8_t pstree[] = { 0x19, 0x43, 0x56, 0x54, 0x30, 0x30, 0x27, 0x50,
				  4,	0,    0,    0,	  0x08, 0x01, 0x10, 0x00 };
static const uint8_t core[] = { 0x19, 0x43, 0x56, 0x54, 0x47, 0x38, 0x05, 0x55, 10,   0,    0,
				0,    0x08, 0x01, 0x2a, 0x06, 0x52, 0x02, 0x50, 0x05, 0x58, 0x02 };
static const uint8_t mounts[] = { 0x19, 0x43, 0x56, 0x54, 0x28, 0x39, 0x56, 0x55, 18,	0,
				  0,	0,    0x08, 0x00, 0x18, 0x08, 0x28, 0x00, 0x32, 0x01,
				  '/',	0x3a, 0x01, '/',  0x42, 0x00, 0x4a, 0x00, 0x50, 0x00 };

static const struct {
	const char *name;
	const uint8_t *data;
	size_t size;
} dump[] = {
	{ "core-1.img", core, sizeof(core) },
	{ "ids-1.img", ids, sizeof(ids) },
	{ "inventory.img", inventory, sizeof(inventory) },
	{ "mountpoints-1.img", mounts, sizeof(mounts) },
	{ "pstree.img", pstree, sizeof(pstree) },
};
#define FILES (sizeof(dump) / sizeof(dump[0]))

/* `which` is the input's; FILES for none */
static void images(size_t which, const uint8_t *data, size_t size)
{
	struct serve_files files = { 0 };
	struct ckpt_tasks tasks;
	struct fault f = { 0 };
	int r;

	for (size_t i = 0; i < FILES; i++) {
		const uint8_t *from = i == which ? data : dump[i].data;
		size_t n = i == which ? size : dump[i].size;
		void *own = malloc(n ? n : 1); /* ends with it, so that a look beyond is seen */

		require(own != NULL);
		if (n)
			memcpy(own, from, n);
		require(!ckpt_files_add_data(&files, dump[i].name, own, n));
	}
	require(!ckpt_files_sort(&files));
	r = ckpt_images_check(&files, NULL, &f);
	require(r == 0 || which < FILES);
	if (r < 0)
		refused(&f);
	f.code = FAULT_NONE;
	r = ckpt_images_tasks(&files, &tasks, &f);
	require(r == 0 || which < FILES);
	if (r < 0)
		refused(&f);
	serve_files_clear(&files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stats_dump stats;
	struct fault f = { 0 };
	size_t which;

	if (!size)
		return 0;
	which = (size_t)(*data++ - '0');
	size--;
	if (which == 0)
		record(data, size);
	else if (which == 1)
		tar(data, size);
	else if (which == 2 && stats_dump_read(&stats, data, size, &f) < 0)
		refused(&f);
	else if (which >= 3)
		images(which - 3, data, size);
	return 0;
}
