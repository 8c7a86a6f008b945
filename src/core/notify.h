// SPDX-License-Identifier: Apache-2.0
/*
 * Telling systemd, by hand: one datagram to $NOTIFY_SOCKET (sd_notify(3))
 */
#pragma once

/*
 * Sends lines as "READY=1\nMAINPID=7". 1 when sent, 0 when nobody asked for it ($NOTIFY_SOCKET is
 * not set), else -errno.
 */
int notify_send(const char *lines);
