// SPDX-License-Identifier: Apache-2.0
/* Filters: the input's first line is the value of every field, each further line a filter. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/filter.h"
#include "util/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool field(void *user, const char *const *path, size_t n, const char **value)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += strlen(path[i]);
	*value = user;
	return sum != 3;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *texts[LIMIT_FILTERS + 1];
	struct filter *filter = NULL;
	struct fault f = { 0 };
	char *copy = malloc(size + 1), *p;
	size_t n = 0;

	if (!copy)
		return 0;
	if (size)
		memcpy(copy, data, size);
	copy[size] = '\0';
	for (p = strchr(copy, '\n'); p && n < LIMIT_FILTERS + 1; p = strchr(p, '\n')) {
		*p++ = '\0';
		texts[n++] = p;
	}
	if (filter_compile(texts, n, &filter, &f) == 0) {
		/* the same list, the same answer */
		if (filter_match(filter, field, copy) != filter_match(filter, field, copy))
			abort();
	} else if (filter || !f.message[0] || f.code == FAULT_NONE) {
		abort();
	}
	filter_free(filter);
	free(copy);
	return 0;
}
