// SPDX-License-Identifier: Apache-2.0
/*
 * CRC-32C (Castagnoli), as iSCSI and ext4 use it: against damage, not against forgery
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc, which is 0 or any seed at the beginning: crc32c(crc32c(s, a), b) covers ab. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);
/* The same without the processor's instruction. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t size);
