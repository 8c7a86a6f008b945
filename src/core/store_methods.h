// SPDX-License-Identifier: Apache-2.0
/*
 * Methods of the store: content, images, snapshots, diff, leases and gc
 */
#pragma once

#include "ipc/method.h"

extern const struct ipc_method content_methods[]; /* svc_content.c */
extern const struct ipc_method image_methods[]; /* svc_image.c */
extern const struct ipc_method checkpoint_methods[]; /* svc_checkpoint.c */
extern const struct ipc_method snapshot_methods[]; /* svc_snapshot.c */
extern const struct ipc_method diff_methods[];
extern const struct ipc_method lease_methods[]; /* svc_lease.c */
extern const struct ipc_method gc_methods[];
