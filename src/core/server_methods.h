// SPDX-License-Identifier: Apache-2.0
/*
 * server.info, server.stats, server.shutdown
 */
#pragma once

#include "core/davit.h"
#include "ipc/method.h"

extern const struct ipc_method server_methods[];

struct server_facts;
int server_facts_new(struct server_facts **out); /* what server.info finds out once */
void server_facts_free(struct server_facts *s);
