// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: an archive applied to a folder, and what came of it packed
 *
 * The input's first byte chooses: bit 0, for overlayfs instead of merged into what is there; bit 1,
 * the checksums of what looks like headers are put right, so that their other fields are reached;
 * bit 2, there is a tree already. The rest is the archive, plain or packed.
 *
 * Beside memory errors it finds: anything outside of the folder that changed; a fault without a
 * reason; a character device 0:0, or a mark of overlayfs, where the layer may not make one; a tree that
 * packs, and comes back as another.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/layer.h"
#include "util/fd.h"
#include "util/tree.h"

enum { OVERLAY = 1, CHECKSUMS = 2, FILLED = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct {
	char path[64];
	int base, root, back;
} fuzz;

struct bytes {
	char *data;
	size_t size;
};

static void must(int ok)
{
	if (!ok)
		abort();
}

static void end(void)
{
	tree_remove(AT_FDCWD, fuzz.path, NULL);
}

static int folder(const char *name)
{
	must(mkdirat(fuzz.base, name, 0755) == 0);
	return openat(fuzz.base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void put(int at, const char *name)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	must(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	strcpy(fuzz.path,
	       access("/dev/shm", W_OK) ? "/tmp/fuzz_layer.XXXXXX" : "/dev/shm/fuzz_layer.XXXXXX");
	must(mkdtemp(fuzz.path) != NULL);
	fuzz.base = open(fuzz.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuzz.root = folder("root");
	fuzz.back = folder("back");
	put(fuzz.base, "out");
	atexit(end);
	return 0;
}

static void fill(int root)
{
	must(mkdirat(root, "a", 0755) == 0 && mkdirat(root, "a/b", 0755) == 0);
	put(root, "a/b/c");
	put(root, "f");
	must(symlinkat("../..", root, "l") == 0);
}

/* Nothing else than these three, and the file as it was. */
static void check_outside(void)
{
	DIR *dir = fdopendir(openat(fuzz.base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	struct stat st;
	int n = 0;

	must(dir != NULL);
	while ((e = readdir(dir)))
		n++;
	closedir(dir);
	must(n == 5);
	must(fstatat(fuzz.base, "out", &st, AT_SYMLINK_NOFOLLOW) == 0);
	must(st.st_size == 1 && st.st_mode == (S_IFREG | 0644) && st.st_nlink == 1);
}

static void put_right(uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 512 <= size; at += 512) {
		unsigned sum = 0;
		char text[8];

		if (memcmp(data + at + 257, "ustar", 5) != 0)
			continue;
		memset(data + at + 148, ' ', 8);
		for (size_t i = 0; i < 512; i++)
			sum += data[at + i];
		snprintf(text, sizeof(text), "%06o", sum & 0777777);
		memcpy(data + at + 148, text, 7);
	}
}

static int apply(const void *data, size_t size, int root, enum layer_target target)
{
	static const struct layer_limits limits = { .bytes = 1 << 20,
						    .entries = 100,
						    .ratio = 100 };
	int fd = memfd_create("layer", MFD_CLOEXEC), r;
	struct fault f = { 0 };
	struct store_call c = { .f = &f };
	struct layer_result result;

	must(fd >= 0 && fd_write_all(fd, data, size) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	r = layer_apply(&c, fd, LAYER_NONE, root, target, &limits, &result);
	close(fd);
	if (r < 0) {
		must(f.code != FAULT_NONE && f.message[0] && !result.implied);
		return r;
	}
	must(result.bytes <= 1 << 20);
	/* with no layers below nothing can go wrong */
	must(layer_inherit(root, &result, NULL, 0, &f) == 0);
	layer_result_clear(&result);
	return 0;
}

static int add(void *user, const void *data, size_t size, struct fault *f)
{
	struct bytes *b = user;

	(void)f;
	b->data = realloc(b->data, b->size + size);
	must(b->data != NULL);
	memcpy(b->data + b->size, data, size);
	b->size += size;
	return 0;
}

static int pack(int root, enum layer_source source, struct bytes *out)
{
	struct fault f = { 0 };
	struct store_call c = { .f = &f };
	int r = layer_pack(&c, root, source, add, out);

	if (r < 0)
		must(f.code != FAULT_NONE && f.message[0] && f.code != FAULT_INTERNAL);
	return r;
}

static void round_trip(enum layer_target target)
{
	enum layer_source source = target == LAYER_OVERLAY ? LAYER_FROM_UPPER : LAYER_FROM_TREE;
	struct bytes one = { 0 }, two = { 0 };
	int r = pack(fuzz.root, source, &one);

	/* real paths may be longer than names of an archive */
	if (!r && !apply(one.data, one.size, fuzz.back, target)) {
		must(!pack(fuzz.back, source, &two));
		must(one.size == two.size && !memcmp(one.data, two.data, one.size));
	}
	free(one.data);
	free(two.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum layer_target target;
	uint8_t *copy;

	if (!size)
		return 0;
	target = data[0] & OVERLAY ? LAYER_OVERLAY : LAYER_MERGE;
	copy = malloc(size);
	must(copy != NULL);
	memcpy(copy, data, size);
	if (data[0] & CHECKSUMS)
		put_right(copy + 1, size - 1);
	if (data[0] & FILLED)
		fill(fuzz.root);
	if (!apply(copy + 1, size - 1, fuzz.root, target))
		round_trip(target);
	free(copy);
	check_outside();
	must(tree_empty(fuzz.root, NULL) == 0 && tree_empty(fuzz.back, NULL) == 0);
	must(fchmod(fuzz.root, 0755) == 0 && fchown(fuzz.root, 0, 0) == 0);
	must(fchmod(fuzz.back, 0755) == 0 && fchown(fuzz.back, 0, 0) == 0);
	return 0;
}
