// SPDX-License-Identifier: Apache-2.0
/*
 * The zoo: sockets
 */
#include "zoo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static bool says(int fd, const char *text)
{
	char got[128] = "";
	ssize_t n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);

	return n == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)n);
}

static void put(int fd, const char *text)
{
	must(send(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static socklen_t unix_address(struct sockaddr_un *sa, const char *name)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	strcpy(sa->sun_path + (*name == '@'), name + (*name == '@'));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + (*name != '@'));
}

static int unix_listen(const char *name, int type)
{
	struct sockaddr_un sa;
	socklen_t size = unix_address(&sa, name);
	int fd = socket(AF_UNIX, type, 0);

	must(fd >= 0 && !bind(fd, (void *)&sa, size));
	must(type == SOCK_DGRAM || !listen(fd, 4));
	return fd;
}

static int unix_connect(const char *name, int type)
{
	struct sockaddr_un sa;
	socklen_t size = unix_address(&sa, name);
	int fd = socket(AF_UNIX, type, 0);

	must(fd >= 0);
	return connect(fd, (void *)&sa, size) ? -1 : fd;
}

void zoo_unix(void)
{
	int stream[2], dgram[2], seq[2], listener, abstract, client, server, one = 1, fd;
	struct stat st;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	must(!socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq));
	put(stream[0], "there");
	put(stream[1], "and back");
	put(dgram[0], "first");
	put(dgram[0], "second");
	put(seq[0], "packet");
	must(!shutdown(seq[0], SHUT_RD));
	listener = unix_listen("/tmp/listener", SOCK_STREAM);
	must(!chmod("/tmp/listener", 0620));
	abstract = unix_listen("@zoo", SOCK_STREAM);
	must(!setsockopt(abstract, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	client = unix_connect("/tmp/listener", SOCK_STREAM);
	server = accept(listener, NULL, NULL);
	must(client >= 0 && server >= 0);
	put(client, "accepted");

	ready_and_wait();
	if (!says(stream[1], "there") || !says(stream[0], "and back"))
		lost("a socketpair");
	if (!says(dgram[1], "first") || !says(dgram[1], "second"))
		lost("datagrams");
	if (!says(seq[1], "packet"))
		lost("a packet");
	if (!says(server, "accepted"))
		lost("a connection");
	put(server, "answer");
	if (!says(client, "answer"))
		lost("a connection, the other way");
	fd = unix_connect("/tmp/listener", SOCK_STREAM);
	if (fd < 0 || accept(listener, NULL, NULL) < 0)
		lost("a listener");
	if (stat("/tmp/listener", &st) || (st.st_mode & 0777) != 0620)
		lost("a socket's mode");
	if (unix_connect("@zoo", SOCK_STREAM) < 0)
		lost("an abstract listener");
	socklen_t size = sizeof(one);
	one = 0;
	must(!getsockopt(abstract, SOL_SOCKET, SO_PASSCRED, &one, &size));
	if (!one)
		lost("SO_PASSCRED");
}

/* An fd that was sent and not yet received. */
void zoo_inflight(void)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 }, byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room,
			    .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], pipes[2], fd;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !pipe(pipes));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pipes[1], sizeof(int));
	must(sendmsg(pair[0], &m, 0) == 1);
	close(pipes[1]);

	ready_and_wait();
	memset(room, 0, sizeof(room));
	m.msg_controllen = sizeof(room);
	if (recvmsg(pair[1], &m, MSG_DONTWAIT) != 1)
		lost("the byte");
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		lost("the fd");
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	if (write(fd, "y", 1) != 1 || read(pipes[0], &byte, 1) != 1 || byte != 'y')
		lost("what the fd is");
}

/* A connection to a socket on a volume, $OUTSIDE, whose other end is outside. */
void zoo_outside(void)
{
	struct sockaddr_un sa;
	socklen_t size = unix_address(&sa, getenv("OUTSIDE"));
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	must(fd >= 0 && !connect(fd, (void *)&sa, size));
	put(fd, "before");
	ready_and_wait();
	put(fd, "after");
}

/* ---- the internet */

static struct sockaddr_in address(unsigned port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int tcp_listen(unsigned port)
{
	struct sockaddr_in sa = address(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	must(fd >= 0);
	must(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	must(!bind(fd, (void *)&sa, sizeof(sa)) && !listen(fd, 7));
	return fd;
}

static int tcp_connect(unsigned port)
{
	struct sockaddr_in sa = address(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	must(fd >= 0);
	return connect(fd, (void *)&sa, sizeof(sa)) ? -1 : fd;
}

void zoo_listen(void)
{
	int listener = tcp_listen(4001), client, server;

	ready_and_wait();
	client = tcp_connect(4001);
	if (client < 0)
		lost("the listener: errno %d", errno);
	server = accept(listener, NULL, NULL);
	must(server >= 0);
	put(client, "hello");
	char c[8];
	if (recv(server, c, 5, MSG_WAITALL) != 5)
		lost("the connection");
}

static void pair(unsigned port, int *listener, int *client, int *server)
{
	*listener = tcp_listen(port);
	*client = tcp_connect(port);
	must(*client >= 0);
	*server = accept(*listener, NULL, NULL);
	must(*server >= 0);
}

void zoo_tcp(void)
{
	int listener, client, server, one = 1;
	char text[16] = "";
	socklen_t size = sizeof(one);

	pair(4002, &listener, &client, &server);
	must(!setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	put(client, "unread");

	ready_and_wait();
	if (recv(server, text, 6, MSG_WAITALL) != 6 || memcmp(text, "unread", 6) != 0)
		lost("what was not yet read: \"%s\", errno %d", text, errno);
	put(server, "answer");
	if (recv(client, text, 6, MSG_WAITALL) != 6 || memcmp(text, "answer", 6) != 0)
		lost("an answer: errno %d", errno);
	one = 0;
	must(!getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, &size));
	if (!one)
		lost("TCP_NODELAY");
}

/* The same, but for tcp_close at the restore: it is as if the peer had gone. */
void zoo_tcpgone(void)
{
	int listener, client, server;
	char c;

	pair(4003, &listener, &client, &server);
	signal(SIGPIPE, SIG_IGN);
	ready_and_wait();
	if (recv(client, &c, 1, MSG_DONTWAIT) > 0 || send(client, "x", 1, 0) > 0)
		lost("the connection is there");
	if (tcp_connect(4003) < 0)
		lost("the listener: errno %d", errno);
}

void zoo_udp(void)
{
	struct sockaddr_in sa = address(4004), six = address(4005);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), peer = socket(AF_INET, SOCK_DGRAM, 0);
	char text[16] = "";

	must(fd >= 0 && peer >= 0);
	must(!bind(fd, (void *)&sa, sizeof(sa)) && !bind(peer, (void *)&six, sizeof(six)));
	must(!connect(peer, (void *)&sa, sizeof(sa)));
	ready_and_wait();
	put(peer, "datagram");
	if (recv(fd, text, sizeof(text), 0) != 8 || memcmp(text, "datagram", 8) != 0)
		lost("a datagram");
}

void zoo_netlink(void)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = { .h = { .nlmsg_len = sizeof(ask),
			 .nlmsg_type = RTM_GETLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	char answer[8192];
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	must(fd >= 0 && !bind(fd, (void *)&sa, sizeof(sa)));
	ready_and_wait();
	must(send(fd, &ask, sizeof(ask), 0) == sizeof(ask));
	if (recv(fd, answer, sizeof(answer), 0) <= 0)
		lost("an answer");
}

void zoo_packet(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));

	must(fd >= 0);
	ready_and_wait();
	must(fcntl(fd, F_GETFD) >= 0);
}

void zoo_tun(void)
{
	struct ifreq r = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "tun7" };
	int fd = open("/dev/net/tun", O_RDWR);

	must(fd >= 0 && !ioctl(fd, TUNSETIFF, &r));
	ready_and_wait();
	must(!ioctl(fd, TUNGETIFF, &r));
	if (strcmp(r.ifr_name, "tun7") != 0)
		lost("the device");
}
