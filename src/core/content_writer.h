// SPDX-License-Identifier: Apache-2.0
/*
 * Writers of content over RPC: a ref belongs to the connection that wrote to it first
 */
#pragma once

#include "core/davit.h"
#include "ipc/request.h"

/*
 * content.write and content.abort, once their arguments are known to be right: they take their turn
 * after what the connection has asked of the ref before. All of them answer.
 */
void content_writer_write(struct davit *d, struct ipc_request *req, bool commit);
/* Of a ref without a writer these only look (stat), or remove (abort). */
void content_writer_stat(struct davit *d, struct ipc_request *req);
void content_writer_abort(struct davit *d, struct ipc_request *req);
/* For the daemon's end: what may take long (hashing what is there) is to stop. */
void content_writers_cancel(struct davit *d);
