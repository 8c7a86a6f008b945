// SPDX-License-Identifier: Apache-2.0
/*
 * Content: a file written by content.write, beside a plain loop that reads, hashes, writes and syncs
 *
 *   content_write -d DIR [-s SOCKET] [-m MIB] [-c CHUNK_KIB] [-w IN_FLIGHT] [-r ROUNDS]
 *
 * DIR takes the source and the plain loop's copy, on the same file system as davit's --root. Both
 * read the same file, which is in memory by then. In each round one comes after the other, in turns.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "rpc.h"

struct options {
	const char *socket, *dir;
	unsigned mib, chunk, window, rounds;
};

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void fill(int fd, unsigned mib, unsigned seed)
{
	uint64_t x = 88172645463325252ull + seed;
	uint64_t *block = malloc(1 << 20);

	if (!block)
		die("memory");
	for (unsigned m = 0; m < mib; m++) {
		for (size_t i = 0; i < (1 << 20) / sizeof(*block); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			block[i] = x;
		}
		if (pwrite(fd, block, 1 << 20, (off_t)m << 20) != 1 << 20)
			die("write the source");
	}
	free(block);
	if (fsync(fd) < 0)
		die("sync the source");
}

static double plain(const struct options *o, int from, char *hex)
{
	char path[4096], *buf = malloc(1 << 20);
	unsigned char hash[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int64_t begin;
	off_t at = 0;
	ssize_t n;
	int to;

	snprintf(path, sizeof(path), "%s/plain", o->dir);
	if (!buf || !ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
		die("memory");
	begin = bench_now();
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (to < 0)
		die(path);
	while ((n = pread(from, buf, 1 << 20, at)) > 0) {
		EVP_DigestUpdate(ctx, buf, (size_t)n);
		if (write(to, buf, (size_t)n) != n)
			die(path);
		at += n;
	}
	if (n < 0 || fsync(to) < 0)
		die(path);
	EVP_DigestFinal_ex(ctx, hash, NULL);
	close(to);
	begin = bench_now() - begin;
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", hash[i]);
	unlink(path);
	EVP_MD_CTX_free(ctx);
	free(buf);
	return (double)begin / 1e9;
}

static void pack_write(struct rig *rig, const char *action, int64_t offset, const void *data,
		       size_t size)
{
	rig->sb.size = 0;
	msgpack_pack_map(&rig->pk, 5);
	mp_pack_key_str(&rig->pk, "namespace", rig->ns);
	mp_pack_key_str(&rig->pk, "ref", "bench");
	mp_pack_key_str(&rig->pk, "action", action);
	mp_pack_key_int(&rig->pk, "offset", offset);
	mp_pack_key(&rig->pk, "data");
	msgpack_pack_bin(&rig->pk, size);
	msgpack_pack_bin_body(&rig->pk, data, size);
}

static void answered(struct rig *rig)
{
	struct client_msg msg;
	int r = client_recv(rig->c, 60000, &msg);

	if (r < 0)
		rig_die("content.write", NULL, r);
	if (msg.type != 1 || msg.error.type != MSGPACK_OBJECT_NIL) {
		msgpack_object_print(stderr, msg.error);
		rig_die("content.write", NULL, -EPROTO);
	}
	client_msg_clear(&msg);
}

/* Seconds, and of them those of the commit. */
static double by_rpc(const struct options *o, struct rig *rig, int from, const char *hex,
		     double *commit)
{
	char *buf = malloc((size_t)o->chunk << 10), digest[80];
	int64_t begin = bench_now(), last;
	unsigned in_flight = 0;
	struct client_msg msg;
	uint32_t msgid;
	off_t at = 0;
	ssize_t n;
	int r;

	if (!buf)
		die("memory");
	while ((n = pread(from, buf, (size_t)o->chunk << 10, at)) > 0) {
		pack_write(rig, "write", at, buf, (size_t)n);
		while (in_flight >= o->window) {
			answered(rig);
			in_flight--;
		}
		r = client_send(rig->c, "content.write", &rig->sb, NULL, 0, &msgid);
		if (r < 0)
			rig_die("content.write", NULL, r);
		in_flight++;
		at += n;
	}
	while (in_flight--)
		answered(rig);
	last = bench_now();
	pack_write(rig, "commit", at, "", 0);
	rig_ask(rig, "content.write", &msg);
	snprintf(digest, sizeof(digest), "sha256:%s", hex);
	if (!mp_get(&msg.result, "digest") || !mp_eq(mp_get(&msg.result, "digest"), digest))
		rig_die("the digest is another", NULL, -EBADMSG);
	client_msg_clear(&msg);
	begin = bench_now() - begin;
	*commit = (double)(bench_now() - last) / 1e9;
	rig_call(rig, "content.delete", "digest", digest, NULL, NULL);
	free(buf);
	return (double)begin / 1e9;
}

/* Small ones: what a commit costs. */
static void small(struct rig *rig, unsigned n)
{
	double *ms = calloc(n, sizeof(*ms));
	char text[64];

	if (!ms)
		die("memory");
	for (unsigned i = 0; i < n; i++) {
		struct client_msg msg;
		int64_t begin;

		snprintf(text, sizeof(text), "%lld-%u", (long long)bench_now(), i);
		pack_write(rig, "commit", 0, text, strlen(text));
		begin = bench_now();
		rig_ask(rig, "content.write", &msg);
		ms[i] = (double)(bench_now() - begin) / 1e6;
		client_msg_clear(&msg);
	}
	bench_print_spread("davit", "content_commit", "ms", ms, n);
	free(ms);
}

static unsigned number(const char *text)
{
	int v = atoi(text);

	if (v <= 0) {
		fprintf(stderr, "content_write: '%s' is no number above 0\n", text);
		exit(2);
	}
	return (unsigned)v;
}

int main(int argc, char **argv)
{
	struct options o = { .mib = 512, .chunk = 4096, .window = 4, .rounds = 3 };
	char path[4096], hex[80];
	double rates[2][64], commits[64], ratios[64];
	struct rig rig;
	int opt, from;

	while ((opt = getopt(argc, argv, "s:d:m:c:w:r:")) != -1) {
		if (opt == 's')
			o.socket = optarg;
		else if (opt == 'd')
			o.dir = optarg;
		else if (opt == 'm')
			o.mib = number(optarg);
		else if (opt == 'c')
			o.chunk = number(optarg);
		else if (opt == 'w')
			o.window = number(optarg);
		else if (opt == 'r')
			o.rounds = number(optarg);
		else
			return 2;
	}
	if (!o.dir || o.rounds > 64 || o.chunk > 16000) {
		fprintf(stderr, "usage: content_write -d DIR [-s SOCKET] [-m MIB] [-c CHUNK_KIB] "
				"[-w IN_FLIGHT] [-r ROUNDS]\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/source", o.dir);
	from = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (from < 0)
		die(path);
	rig_open(&rig, o.socket, "bench-content");
	for (unsigned i = 0; i < o.rounds; i++) {
		double a, b;

		/* other bytes each time: what is there already is not written */
		fill(from, o.mib, i);
		if (i % 2) {
			/* the digest is wanted first */
			plain(&o, from, hex);
			b = by_rpc(&o, &rig, from, hex, &commits[i]);
			a = plain(&o, from, hex);
		} else {
			a = plain(&o, from, hex);
			b = by_rpc(&o, &rig, from, hex, &commits[i]);
		}
		rates[0][i] = o.mib / a;
		rates[1][i] = o.mib / b;
		ratios[i] = a / b;
		commits[i] *= 1e3;
	}
	unlink(path);
	bench_print_spread("floor", "content_plain", "MiB/s", rates[0], o.rounds);
	bench_print_spread("davit", "content_write", "MiB/s", rates[1], o.rounds);
	bench_print_spread("davit", "content_write_to_plain", "x", ratios, o.rounds);
	bench_print_spread("davit", "content_commit_large", "ms", commits, o.rounds);
	small(&rig, 100);
	rig_close(&rig);
	return 0;
}
