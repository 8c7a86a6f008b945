// SPDX-License-Identifier: Apache-2.0
/*
 * The network in criu's images
 *
 * images/netdev.proto: member 8 of netns-ID.img's only entry is the key of one that is handed in; with
 * it, criu looks at no other file of that network (criu/net.c).
 */
#include "checkpoint/net_image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/image_file.h"

#define TAG_EXT_KEY (8 << 3 | 2)

static void put_word(uint8_t **to, uint32_t word)
{
	memcpy(*to, &word, sizeof(word));
	*to += sizeof(word);
}

int net_image_hand_in(struct serve_files *files, const char *key, struct fault *f)
{
	struct serve_file *file = NULL;
	uint8_t *data, *to;
	uint32_t size;

	for (size_t i = 0; i < files->n; i++) {
		if (strncmp(files->v[i].name, "netns-", 6) != 0)
			continue;
		if (file)
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, EBADMSG,
				"the checkpoint has several networks; none of them can be replaced");
		file = &files->v[i];
	}
	if (!file || file->n_parts != 1 || !file->parts[0].data)
		return fault_set(f, FAULT_FAILED_PRECONDITION, EBADMSG,
				 "the checkpoint has no network that could be replaced");
	size = (uint32_t)strlen(key);
	data = to = malloc(3 * sizeof(uint32_t) + 2 + size);
	if (!data || size > 127) {
		free(data);
		return fault_sys(f, ENOMEM, "change", file->name);
	}
	put_word(&to, IMG_COMMON_MAGIC);
	put_word(&to, IMG_NETNS);
	put_word(&to, size + 2);
	*to++ = TAG_EXT_KEY;
	*to++ = (uint8_t)size;
	memcpy(to, key, size);
	free(file->parts[0].data);
	file->parts[0].data = data;
	file->parts[0].size = (uint64_t)(to + size - data);
	return 0;
}
