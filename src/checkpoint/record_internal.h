// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a checkpoint, inside: the members that reader and writer treat alike
 */
#pragma once

#include <stddef.h>

#include "checkpoint/record.h"

#define CKPT_RECORD_VERSION 1

extern const char *const ckpt_net_names[CKPT_NETS];

struct ckpt_text { /* a text for people, "" when there is none */
	const char *name;
	size_t offset;
	bool of_container; /* in "container" */
};
#define CKPT_TEXTS 6
extern const struct ckpt_text ckpt_texts[CKPT_TEXTS];

struct ckpt_flag { /* of "options" */
	const char *name;
	size_t offset;
};
#define CKPT_OPTIONS 6
extern const struct ckpt_flag ckpt_options[CKPT_OPTIONS];

static inline char **ckpt_text_of(struct ckpt_record *r, size_t i)
{
	return (char **)((char *)r + ckpt_texts[i].offset);
}

static inline bool *ckpt_option_of(struct ckpt_record *r, size_t i)
{
	return (bool *)((char *)r + ckpt_options[i].offset);
}
