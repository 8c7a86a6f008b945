// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint: whether a network namespace is as a new one
 *
 * criu's own dump of a network runs several programs and takes longer than that of a small container.
 * One that has nothing but the loopback, with its usual addresses and no rules, need not be dumped: a
 * restore makes a new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/ckpt_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

struct net_look {
	int fd;
	bool empty, nft;
	int err;
};

static bool is_loopback(const struct ifaddrs *a)
{
	if (!a->ifa_addr)
		return true;
	if (a->ifa_addr->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(void *)a->ifa_addr;

		return in->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
	}
	if (a->ifa_addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(void *)a->ifa_addr;

		return IN6_IS_ADDR_LOOPBACK(&in->sin6_addr);
	}
	return true;
}

/* Whether a list in the namespace's /proc/net says something. */
static bool says(const char *list)
{
	CLEANUP_FREE char *text = NULL;
	char path[64];
	size_t size;

	snprintf(path, sizeof(path), "/proc/thread-self/net/%s", list);
	/* without the module there is no list, and nothing in it */
	return fd_read_file(AT_FDCWD, path, 4096, &text, &size) == 0 && size;
}

/* The first table of nftables, or the end of the list. 0, 1 when there is one, or negative */
static int has_nft_tables(void)
{
	struct {
		struct nlmsghdr h;
		struct nfgenmsg g;
	} ask = {
		.h = { .nlmsg_len = sizeof(ask),
		       .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.g = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 },
	};
	CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	union {
		struct nlmsghdr h;
		char room[8192];
	} answer;
	ssize_t n;

	if (fd < 0)
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	if (send(fd, &ask, sizeof(ask), 0) < 0)
		return errno == ECONNREFUSED ? 0 : -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < (ssize_t)sizeof(answer.h))
		return n < 0 ? -errno : -EBADMSG;
	if (answer.h.nlmsg_type == NLMSG_DONE)
		return 0;
	/* a kernel without nftables knows no such request */
	return answer.h.nlmsg_type != NLMSG_ERROR;
}

/* A thread, since it enters the namespace. */
static void *look_thread(void *arg)
{
	struct net_look *l = arg;
	struct if_nameindex *names;
	struct ifaddrs *list;
	int r;

	if (unshare(CLONE_FS) < 0 || setns(l->fd, CLONE_NEWNET) < 0) {
		l->err = errno;
		return NULL;
	}
	names = if_nameindex();
	if (!names || getifaddrs(&list) < 0) {
		l->err = errno;
		if (names)
			if_freenameindex(names);
		return NULL;
	}
	l->empty = true;
	for (struct if_nameindex *n = names; n->if_index; n++)
		l->empty &= !strcmp(n->if_name, "lo");
	for (struct ifaddrs *a = list; a; a = a->ifa_next)
		l->empty &= is_loopback(a);
	freeifaddrs(list);
	if_freenameindex(names);
	/* rules are a reason to have one's own */
	l->empty &= !says("ip_tables_names") && !says("ip6_tables_names");
	r = has_nft_tables();
	l->err = r < 0 ? -r : 0;
	l->nft = r > 0;
	l->empty &= !r;
	return NULL;
}

int ckpt_net_is_empty(pid_t pid, bool *empty, bool *nft, struct fault *f)
{
	struct net_look l = { 0 };
	pthread_t thread;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	l.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (l.fd < 0)
		return fault_sys(f, errno, "open", path);
	r = pthread_create(&thread, NULL, look_thread, &l);
	if (!r)
		pthread_join(thread, NULL);
	close(l.fd);
	if (r || l.err)
		return fault_sys(f, r ? r : l.err, "look into the network namespace", path);
	*empty = l.empty;
	*nft = l.nft;
	return 0;
}
