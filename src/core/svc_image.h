// SPDX-License-Identifier: Apache-2.0
/*
 * Methods of images, inside: what records and the long ones share
 */
#pragma once

#include "core/store_job.h"
#include "store/image.h"

/* The map of one image. */
void image_pack(msgpack_packer *pk, const struct image_info *info);

/* svc_image_work.c */
void images_import(struct ipc_request *req, void *user);
void images_export(struct ipc_request *req, void *user);
void images_unpack(struct ipc_request *req, void *user);
void images_from_dir(struct ipc_request *req, void *user);
void images_usage(struct ipc_request *req, void *user);
