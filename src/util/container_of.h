// SPDX-License-Identifier: Apache-2.0
/*
 * From a member to the struct around it
 */
#pragma once

#include <stddef.h>

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
