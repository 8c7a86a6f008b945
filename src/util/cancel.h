// SPDX-License-Identifier: Apache-2.0
/*
 * A flag that a thread with long work looks at: nobody wants the result any more
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct cancel {
	atomic_bool wanted;
};

static inline void cancel_set(struct cancel *c)
{
	atomic_store_explicit(&c->wanted, true, memory_order_relaxed);
}

static inline bool cancelled(const struct cancel *c) /* NULL: never */
{
	return c && atomic_load_explicit(&c->wanted, memory_order_relaxed);
}
