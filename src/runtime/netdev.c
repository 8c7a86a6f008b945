// SPDX-License-Identifier: Apache-2.0
/*
 * linux.netDevices: moving the host's network devices into a container
 *
 * By rtnetlink, from a thread that enters the container's network namespace, so that the daemon's stay where they are. A device is moved and renamed in one
 * request; its permanent addresses of global scope, which the kernel drops with the move, are given back, and it is brought up
 * (runtime-spec, config-linux.md, "Network Devices"). When one fails, those that went before it come back under their old names.
 *
 * What a container gets is not returned at its end: the kernel gives physical devices back to the host and removes virtual ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/plan.h"
#include "util/cleanup.h"

#define ADDRESSES_MAX 64 /* of one device */
#define REPLY_BYTES 32768

struct address {
	struct ifaddrmsg head;
	unsigned char local[16], peer[16], broadcast[16];
	bool has_local, has_peer, has_broadcast;
};

struct device {
	const char *host_name, *name;
	struct address addresses[ADDRESSES_MAX];
	size_t n_addresses;
	bool up, moved;
};

struct request {
	struct nlmsghdr head;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
	};
	char attrs[256];
};

struct move {
	const struct spec_net_device *devices;
	size_t n;
	pid_t pid;
	struct fault *f;
	int result;
};

static size_t address_size(int family)
{
	return family == AF_INET6 ? 16 : 4;
}

static void add_attr(struct request *r, unsigned short type, const void *data, size_t size)
{
	struct rtattr *a = (struct rtattr *)(void *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(RTA_DATA(a), data, size);
	r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

static int netlink(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

/* Sends a request and takes its acknowledgement. */
static int ask(int sock, struct request *r)
{
	char reply[1024];
	struct nlmsghdr *h = (struct nlmsghdr *)(void *)reply;
	struct nlmsgerr err;
	ssize_t n;

	r->head.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (send(sock, r, r->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(sock, reply, sizeof(reply), 0);
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != NLMSG_ERROR ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(err)))
		return -EPROTO;
	memcpy(&err, NLMSG_DATA(h), sizeof(err));
	return err.error;
}

/* In the thread's namespace of now: an ioctl knows no other. */
static int index_of(const char *name, int *index, bool *up)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	if (fd < 0)
		return -errno;
	if (strlen(name) >= sizeof(ifr.ifr_name))
		return -ENODEV;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	if (up)
		*up = ifr.ifr_flags & IFF_UP;
	if (ioctl(fd, SIOCGIFINDEX, &ifr) < 0)
		return -errno;
	*index = ifr.ifr_ifindex;
	return 0;
}

static void take_address(struct device *d, const struct nlmsghdr *h, int index)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct address *a = &d->addresses[d->n_addresses];
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	uint32_t flags = m->ifa_flags;

	if (m->ifa_index != (unsigned)index ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6) ||
	    m->ifa_scope != RT_SCOPE_UNIVERSE || d->n_addresses == ADDRESSES_MAX)
		return;
	memset(a, 0, sizeof(*a));
	a->head = *m;
	for (struct rtattr *t =
		     (struct rtattr *)(void *)((char *)NLMSG_DATA(h) + NLMSG_ALIGN(sizeof(*m)));
	     RTA_OK(t, left); t = RTA_NEXT(t, left)) {
		size_t size = RTA_PAYLOAD(t);

		if (t->rta_type == IFA_FLAGS && size == sizeof(flags))
			memcpy(&flags, RTA_DATA(t), sizeof(flags));
		if (size != address_size(m->ifa_family))
			continue;
		if (t->rta_type == IFA_LOCAL) {
			memcpy(a->local, RTA_DATA(t), size);
			a->has_local = true;
		} else if (t->rta_type == IFA_ADDRESS) {
			memcpy(a->peer, RTA_DATA(t), size);
			a->has_peer = true;
		} else if (t->rta_type == IFA_BROADCAST) {
			memcpy(a->broadcast, RTA_DATA(t), size);
			a->has_broadcast = true;
		}
	}
	if (flags & IFA_F_PERMANENT)
		d->n_addresses++;
}

static int read_addresses(int sock, int index, struct device *d)
{
	CLEANUP_FREE char *reply = malloc(REPLY_BYTES);
	struct request r = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
			  .nlmsg_type = RTM_GETADDR,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
	};

	if (!reply)
		return -ENOMEM;
	if (send(sock, &r, r.head.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(sock, reply, REPLY_BYTES, 0);
		size_t left;

		if (n < 0)
			return -errno;
		left = (size_t)n;
		for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)reply; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -EPROTO;
			if (h->nlmsg_type == RTM_NEWADDR)
				take_address(d, h, index);
		}
	}
}

static int send_away(int sock, int index, int ns, const char *name)
{
	struct request r = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			  .nlmsg_type = RTM_NEWLINK },
		.link = { .ifi_index = index },
	};

	add_attr(&r, IFLA_NET_NS_FD, &ns, sizeof(ns));
	add_attr(&r, IFLA_IFNAME, name, strlen(name) + 1);
	return ask(sock, &r);
}

static int bring_up(int sock, int index)
{
	struct request r = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			  .nlmsg_type = RTM_NEWLINK },
		.link = { .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP },
	};

	return ask(sock, &r);
}

static int add_address(int sock, int index, const struct address *a)
{
	struct request r = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)),
			  .nlmsg_type = RTM_NEWADDR,
			  .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE },
		.address = a->head,
	};
	size_t size = address_size(a->head.ifa_family);

	r.address.ifa_index = (unsigned)index;
	r.address.ifa_flags = 0;
	if (a->has_local)
		add_attr(&r, IFA_LOCAL, a->local, size);
	if (a->has_peer)
		add_attr(&r, IFA_ADDRESS, a->peer, size);
	if (a->has_broadcast)
		add_attr(&r, IFA_BROADCAST, a->broadcast, size);
	return ask(sock, &r);
}

/* In the namespace where the device is now: its addresses, and up. */
static int settle(int sock, const struct device *d, const char *name, bool up)
{
	int index = 0, r = index_of(name, &index, NULL);

	for (size_t i = 0; !r && i < d->n_addresses; i++)
		r = add_address(sock, index, &d->addresses[i]);
	return !r && up ? bring_up(sock, index) : r;
}

static int bad(struct fault *f, const char *name, int err, const char *what)
{
	fault_set(f, fault_code_of_errno(err), err, "linux.netDevices %s: %s", name, what);
	fault_at(f, what, name);
	fault_arg(f, "linux.netDevices");
	return -err;
}

static int enter(int ns, struct fault *f)
{
	return setns(ns, CLONE_NEWNET) < 0 ? fault_sys(f, errno, "join namespace", "net") : 0;
}

static int move_one(struct device *d, int host, int inside, int ns, int host_ns, struct fault *f)
{
	int index = 0, r;

	r = enter(host_ns, f);
	if (r < 0)
		return r;
	r = index_of(d->host_name, &index, &d->up);
	if (r < 0)
		return bad(f, d->host_name, -r, "find");
	r = read_addresses(host, index, d);
	if (r < 0)
		return bad(f, d->host_name, -r, "read addresses");
	r = send_away(host, index, ns, d->name);
	if (r < 0)
		return bad(f, d->host_name, -r, "move");
	d->moved = true;
	r = enter(ns, f);
	if (r < 0)
		return r;
	r = settle(inside, d, d->name, true);
	return r < 0 ? bad(f, d->host_name, -r, "set up") : 0;
}

/* Best effort: the fault that led here is the one to be told. */
static void move_back(struct device *d, int host, int inside, int ns, int host_ns)
{
	int index = 0;

	if (setns(ns, CLONE_NEWNET) < 0 || index_of(d->name, &index, NULL) < 0 ||
	    send_away(inside, index, host_ns, d->host_name) < 0)
		return;
	if (!setns(host_ns, CLONE_NEWNET))
		(void)settle(host, d, d->host_name, d->up);
}

static int move_all(const struct move *m)
{
	struct device *d = calloc(m->n, sizeof(*d));
	int host_ns = -1, ns = -1, host = -1, inside = -1, r;
	char path[64];

	if (!d)
		return plan_no_memory(m->f);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)m->pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	host_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ns < 0 || host_ns < 0) {
		r = fault_sys(m->f, errno, "open namespace",
			      ns < 0 ? path : "/proc/thread-self/ns/net");
		goto out;
	}
	host = r = netlink();
	if (r >= 0)
		r = enter(ns, m->f);
	if (!r)
		inside = r = netlink();
	if (host < 0 || inside < 0) {
		r = fault_sys(m->f, r < 0 ? -r : EIO, "netlink", NULL);
		goto out;
	}
	r = 0;
	for (size_t i = 0; !r && i < m->n; i++) {
		d[i].host_name = m->devices[i].host_name;
		d[i].name = m->devices[i].name && *m->devices[i].name ? m->devices[i].name
								      : d[i].host_name;
		r = strlen(d[i].name) < IFNAMSIZ ? move_one(&d[i], host, inside, ns, host_ns, m->f)
						 : bad(m->f, d[i].host_name, ENAMETOOLONG, "name");
	}
	for (size_t i = m->n; r < 0 && i-- > 0;)
		if (d[i].moved)
			move_back(&d[i], host, inside, ns, host_ns);
out:
	for (size_t i = 0; i < 4; i++) {
		int fd = i == 0 ? host : i == 1 ? inside : i == 2 ? ns : host_ns;

		if (fd >= 0)
			close(fd);
	}
	free(d);
	return r;
}

static void *move_thread(void *user)
{
	struct move *m = user;

	m->result = move_all(m);
	return NULL;
}

int netdev_move(const struct spec_net_device *devices, size_t n, pid_t pid, struct fault *f)
{
	struct move m = { .devices = devices, .n = n, .pid = pid, .f = f };
	pthread_t thread;
	int r = pthread_create(&thread, NULL, move_thread, &m);

	if (r)
		return fault_sys(f, r, "start thread", NULL);
	pthread_join(thread, NULL);
	return m.result;
}
