// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: the network namespace
 *
 * One that held nothing but the loopback is made anew; one that was shared is found by the live
 * spec's path; the caller can name another (options.network_namespace). Only what had devices and
 * addresses of its own is in criu's images. A checkpoint never gets into the host's network because
 * it says so itself: that takes a live spec which has no network namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/net_image.h"
#include "core/restore_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

struct net_job {
	int fd, err;
};

static void *net_thread(void *arg)
{
	struct ifreq lo = { .ifr_name = "lo" };
	struct net_job *j = arg;
	int s;

	if (unshare(CLONE_NEWNET) < 0) {
		j->err = errno;
		return NULL;
	}
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0 || ioctl(s, SIOCGIFFLAGS, &lo) < 0) {
		j->err = errno;
	} else {
		lo.ifr_flags |= IFF_UP | IFF_RUNNING;
		if (ioctl(s, SIOCSIFFLAGS, &lo) < 0)
			j->err = errno;
	}
	if (s >= 0)
		close(s);
	if (j->err)
		return NULL;
	j->fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (j->fd < 0)
		j->err = errno;
	return NULL;
}

static int new_net(int *fd, struct fault *f)
{
	struct net_job j = { .fd = -1 };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, net_thread, &j);

	if (!r)
		pthread_join(thread, NULL);
	if (r || j.err)
		return fault_sys(f, r ? r : j.err, "make a network namespace", NULL);
	*fd = j.fd;
	return 0;
}

static int hand_in(struct restore *r, int fd, struct fault *f)
{
	const char *key = r->read.record.net_key;

	if (restore_keep_fd(r, fd) < 0 ||
	    restore_inherit(r, fd, key && *key ? key : CRIU_NET_KEY) < 0)
		return restore_no_memory(f);
	return 0;
}

static int hand_in_path(struct restore *r, const char *path, struct fault *f)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? fault_sys(f, errno, "open the network namespace", path) : hand_in(r, fd, f);
}

/*
 * criu asks for the size of the image with the rules of nftables, which a stream does not have, and goes on
 * without them (criu/net.c). A network without its rules is not what was checkpointed.
 */
static int check_rules(const struct ckpt_record *k, struct fault *f)
{
	return k->net_rules
		       ? fault_set(
				 f, FAULT_FAILED_PRECONDITION, 0,
				 "the network of the checkpoint has rules of nftables, which criu does not restore; set up a network namespace with them and give it as options.network_namespace")
		       : 0;
}

int restore_net(struct restore *r, const struct restore_start *s, struct fault *f)
{
	const struct spec_ns *live = &s->spec->ns[SPEC_NS_NETWORK];
	const char *path = r->network ? r->network : live->path;
	int fd = -1, e;

	switch (r->read.record.net) {
	case CKPT_NET_HOST:
		if (live->given)
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"the checkpoint was taken in the host's network, but the container's spec has a network namespace");
		return 0;
	case CKPT_NET_EMPTY:
	case CKPT_NET_SHARED:
		if (path)
			return hand_in_path(r, path, f);
		if (!live->given)
			return hand_in_path(r, "/proc/self/ns/net", f);
		e = new_net(&fd, f);
		return e < 0 ? e : hand_in(r, fd, f);
	case CKPT_NET_DUMPED:
		if (!path)
			return check_rules(&r->read.record, f);
		e = net_image_hand_in(&r->read.files, CRIU_NET_KEY, f);
		return e < 0 ? e : hand_in_path(r, path, f);
	case CKPT_NETS:
		break;
	}
	return fault_set(f, FAULT_INTERNAL, 0, "the checkpoint's network is of no known kind");
}
