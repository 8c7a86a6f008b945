// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint: whether a network namespace is as a new one
 *
 * criu's own dump of a network runs several programs and takes longer than that of a small container.
 * One that has nothing but the loopback, as up as a new one's, with its usual addresses, routes and
 * policies and no rules of filters, need not be dumped: a restore makes a new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fib_rules.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
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

#define LO_MTU 65536

static bool is_usual_rule(const struct nlmsghdr *h)
{
	const struct fib_rule_hdr *rule = NLMSG_DATA(h);
	const struct rtattr *a = (const void *)((const char *)rule + NLMSG_ALIGN(sizeof(*rule)));
	int left = (int)NLMSG_PAYLOAD(h, NLMSG_ALIGN(sizeof(*rule)));
	uint32_t table = rule->table, priority = 0;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == FRA_TABLE)
			memcpy(&table, RTA_DATA(a), sizeof(table));
		else if (a->rta_type == FRA_PRIORITY)
			memcpy(&priority, RTA_DATA(a), sizeof(priority));
		else if (a->rta_type != FRA_PROTOCOL && a->rta_type != FRA_SUPPRESS_PREFIXLEN)
			return false;
	}
	return rule->action == FR_ACT_TO_TBL && !rule->src_len && !rule->dst_len && !rule->tos &&
	       ((table == RT_TABLE_LOCAL && priority == 0) ||
		(table == RT_TABLE_MAIN && priority == 32766) ||
		(table == RT_TABLE_DEFAULT && priority == 32767) ||
		/* multicast's for IPv6 */
		(rule->family == RTNL_FAMILY_IP6MR && table == RT_TABLE_MAIN && priority == 32767));
}

/* Those that the kernel makes for the loopback's addresses by itself. */
static bool is_usual_route(const struct nlmsghdr *h)
{
	const struct rtmsg *route = NLMSG_DATA(h);

	return route->rtm_protocol == RTPROT_KERNEL;
}

/* Whether each answer to a dump is a usual one: 1, 0 or negative. At the first that is not it ends. */
static int all_usual(uint16_t type, bool (*usual)(const struct nlmsghdr *h))
{
	struct {
		struct nlmsghdr h;
		struct rtmsg m;
	} ask = {
		.h = { .nlmsg_len = sizeof(ask),
		       .nlmsg_type = type,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.m = { .rtm_family = AF_UNSPEC },
	};
	CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	union {
		struct nlmsghdr h;
		char room[32768];
	} answer;

	if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t got = recv(fd, &answer, sizeof(answer), 0);
		unsigned n = (unsigned)got;

		if (got < 0)
			return -errno;
		for (struct nlmsghdr *h = &answer.h; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 1;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -EBADMSG;
			if (!usual(h))
				return 0;
		}
	}
}

/* As a new one that is up. */
static int is_usual_lo(void)
{
	struct ifreq up = { .ifr_name = "lo" }, mtu = { .ifr_name = "lo" };
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &up) < 0 || ioctl(fd, SIOCGIFMTU, &mtu) < 0)
		return -errno;
	return up.ifr_flags & IFF_UP && mtu.ifr_mtu == LO_MTU;
}

/* Its loopback, routes and policies. 1, 0 or negative */
static int is_usual(void)
{
	int r = is_usual_lo();

	if (r > 0)
		r = all_usual(RTM_GETROUTE, is_usual_route);
	return r > 0 ? all_usual(RTM_GETRULE, is_usual_rule) : r;
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
	r = is_usual();
	l->empty &= r > 0;
	if (r >= 0)
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
