// SPDX-License-Identifier: Apache-2.0
/*
 * The bare pipeline: what a checkpoint costs without anybody's bookkeeping
 *
 *   pipeline -i IMAGES_DIR [-k RUN] [-o FOLDER | -p] [-l LEVEL] -- CRIU dump ARG…
 *
 * The peer of `criu dump --stream` as a plain program: takes the pipes, compresses in frames of 4 MiB
 * with a thread for each processor, hashes and writes in order, and syncs. A file for the memory
 * pages and one for all else go to FOLDER and are removed afterwards. Without -o all is read and
 * dropped: the shortest time that a task can be frozen for. With -p there is no peer at all: criu
 * writes files itself.
 *
 * RUN: a folder of a tmpfs, bound to /run for criu. The time is from criu's start to the last sync.
 * It shares the wire's parser with davit, and nothing else.
 */
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <zstd.h>

#include "checkpoint/wire.h"
#include "criu.h"

#define FRAME (4u << 20)
#define FRAMES 48u /* in memory at most, each twice: read and packed */
#define FILES 4096u
#define THREADS 64u

enum frame_state { FREE, FULL, PACKING, PACKED };

struct frame {
	enum frame_state state;
	unsigned char *data, *out;
	size_t size, packed;
	unsigned to; /* which file */
	bool last;
	uint64_t serial; /* in the order of its file */
};

struct output {
	char path[4096];
	int fd;
	EVP_MD_CTX *hash;
	uint64_t serial, written; /* of the next frame to be written; next to be filled */
	uint64_t bytes;
	bool ended;
};

struct input { /* a pipe of criu's */
	int fd;
	bool pages;
};

static struct frame frames[FRAMES];
static struct output outputs[2]; /* 0: pages, 1: all else */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool over;
static int level = 1;

static void *pack(void *arg)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();

	(void)arg;
	if (!z)
		criu_die("memory", ENOMEM);
	pthread_mutex_lock(&lock);
	while (true) {
		struct frame *f = NULL;

		for (unsigned i = 0; i < FRAMES; i++)
			if (frames[i].state == FULL &&
			    (!f || frames[i].to != f->to ? !f : frames[i].serial < f->serial))
				f = &frames[i];
		if (!f && over)
			break;
		if (!f) {
			pthread_cond_wait(&changed, &lock);
			continue;
		}
		f->state = PACKING;
		pthread_mutex_unlock(&lock);
		f->packed = ZSTD_compressCCtx(z, f->out, ZSTD_compressBound(FRAME), f->data,
					      f->size, level);
		if (ZSTD_isError(f->packed))
			criu_die("zstd", EIO);
		pthread_mutex_lock(&lock);
		f->state = PACKED;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	ZSTD_freeCCtx(z);
	return NULL;
}

static void write_frame(struct output *o, const struct frame *f)
{
	for (size_t at = 0; at < f->packed;) {
		ssize_t n = write(o->fd, f->out + at, f->packed - at);

		if (n < 0)
			criu_die(o->path, errno);
		at += (size_t)n;
	}
	EVP_DigestUpdate(o->hash, f->out, f->packed);
	o->bytes += f->packed;
}

/* One for each output: in order, and synced at the end. */
static void *put(void *arg)
{
	struct output *o = arg;
	unsigned which = (unsigned)(o - outputs);
	unsigned char md[EVP_MAX_MD_SIZE];

	pthread_mutex_lock(&lock);
	while (true) {
		struct frame *f = NULL;

		for (unsigned i = 0; i < FRAMES; i++)
			if (frames[i].state == PACKED && frames[i].to == which &&
			    frames[i].serial == o->written)
				f = &frames[i];
		if (!f && o->ended && o->written == o->serial)
			break;
		if (!f) {
			pthread_cond_wait(&changed, &lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		write_frame(o, f);
		pthread_mutex_lock(&lock);
		o->written++;
		f->state = FREE;
		pthread_cond_broadcast(&changed);
	}
	pthread_mutex_unlock(&lock);
	if (fdatasync(o->fd) < 0)
		criu_die(o->path, errno);
	EVP_DigestFinal_ex(o->hash, md, NULL);
	return NULL;
}

static struct frame *take_frame(unsigned to)
{
	struct frame *f = NULL;

	pthread_mutex_lock(&lock);
	while (!f) {
		for (unsigned i = 0; i < FRAMES && !f; i++)
			if (frames[i].state == FREE)
				f = &frames[i];
		if (!f)
			pthread_cond_wait(&changed, &lock);
	}
	f->state = PACKING; /* not anybody's to take */
	pthread_mutex_unlock(&lock);
	if (!f->data) {
		f->data = mmap(NULL, FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			       0);
		f->out = malloc(ZSTD_compressBound(FRAME));
		if (f->data == MAP_FAILED || !f->out)
			criu_die("memory", ENOMEM);
		(void)madvise(f->data, FRAME, MADV_HUGEPAGE);
	}
	f->size = 0;
	f->to = to;
	return f;
}

static void give_frame(struct frame *f)
{
	pthread_mutex_lock(&lock);
	f->serial = outputs[f->to].serial++;
	f->state = FULL;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void end_outputs(void)
{
	pthread_mutex_lock(&lock);
	over = outputs[0].ended = outputs[1].ended = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* ---- criu's side */

static struct input inputs[FILES];
static struct pollfd polls[FILES + 1]; /* the connection, then the inputs */
static nfds_t n_inputs;
static uint64_t bytes_in;

static int listen_at(const char *dir)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/streamer-capture.sock", dir) >=
	    (int)sizeof(sa.sun_path))
		criu_die(dir, ENAMETOOLONG);
	unlink(sa.sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1) < 0)
		criu_die(sa.sun_path, errno);
	return fd;
}

/* False: criu is done asking. */
static bool take_requests(struct wire *w, int sock)
{
	struct fault f = { 0 };
	int fd;

	while (true) {
		switch (wire_read(w, sock, &fd, &f)) {
		case WIRE_AGAIN:
			return true;
		case WIRE_END:
			return false;
		case WIRE_REQUEST:
			wire_want_fd(w);
			break;
		case WIRE_GOT_FD:
			if (n_inputs == FILES)
				criu_die("too many files", EMFILE);
			fcntl(fd, F_SETFL, O_NONBLOCK);
			(void)fcntl(fd, F_SETPIPE_SZ, 1 << 20);
			inputs[n_inputs] = (struct input){ fd, !strncmp(w->name, "pages-", 6) };
			polls[++n_inputs] = (struct pollfd){ .fd = fd, .events = POLLIN };
			break;
		case WIRE_BROKEN:
			fprintf(stderr, "bench: %s\n", f.message);
			exit(1);
		}
	}
}

/* Whatever is in the pipe; what is kept goes into the current frame of its output. */
static void take_bytes(nfds_t i, struct frame *current[2], bool keep)
{
	unsigned to = inputs[i].pages ? 0 : 1;
	struct frame *f = current[to];
	ssize_t n;

	if (!f)
		f = current[to] = take_frame(to);
	if (!keep)
		f->size = 0;
	n = read(inputs[i].fd, f->data + f->size, FRAME - f->size);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n < 0)
		criu_die("read", errno);
	if (!n) {
		close(inputs[i].fd);
		inputs[i] = inputs[--n_inputs];
		polls[i + 1] = polls[n_inputs + 1];
		return;
	}
	f->size += (size_t)n;
	bytes_in += (uint64_t)n;
	if (keep && f->size == FRAME) {
		give_frame(f);
		current[to] = NULL;
	}
}

static void drain(int listening, bool keep)
{
	struct frame *current[2] = { NULL, NULL };
	bool asking = true;
	struct wire w;
	int sock = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		criu_die("accept", errno);
	wire_init(&w);
	polls[0] = (struct pollfd){ .fd = sock, .events = POLLIN };
	while (asking || n_inputs) {
		if (poll(polls, n_inputs + 1, -1) < 0 && errno != EINTR)
			criu_die("poll", errno);
		for (nfds_t i = n_inputs; i--;)
			if (polls[i + 1].revents)
				take_bytes(i, current, keep);
		if (polls[0].revents && asking)
			asking = take_requests(&w, sock);
		if (!asking)
			polls[0].fd = -1;
	}
	for (int i = 0; i < 2 && keep; i++)
		if (current[i] && current[i]->size)
			give_frame(current[i]);
	close(sock);
}

/* ---- */

static void open_outputs(const char *folder, pthread_t threads[2])
{
	static const char *const names[2] = { "pages", "files" };

	for (int i = 0; i < 2; i++) {
		struct output *o = &outputs[i];

		snprintf(o->path, sizeof(o->path), "%s/pipeline-%s", folder, names[i]);
		o->fd = open(o->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		o->hash = EVP_MD_CTX_new();
		if (o->fd < 0 || !o->hash || EVP_DigestInit_ex(o->hash, EVP_sha256(), NULL) != 1)
			criu_die(o->path, errno);
		if (pthread_create(&threads[i], NULL, put, o))
			criu_die("thread", EAGAIN);
	}
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const char *images = NULL, *run = NULL, *folder = NULL, *bench;
	pthread_t packers[THREADS], writers[2];
	unsigned n = cpus < 1 ? 1 : cpus > THREADS ? THREADS : (unsigned)cpus;
	bool plain = false;
	int64_t begin, ended;
	int opt, fd = -1;
	pid_t pid;

	while ((opt = getopt(argc, argv, "+i:k:o:l:p")) != -1) {
		if (opt == 'i')
			images = optarg;
		else if (opt == 'k')
			run = optarg;
		else if (opt == 'o')
			folder = optarg;
		else if (opt == 'l')
			level = atoi(optarg);
		else if (opt == 'p')
			plain = true;
		else
			return 2;
	}
	argv += optind;
	if (!images || !*argv) {
		fprintf(stderr,
			"usage: pipeline -i IMAGES_DIR [-k RUN] [-o FOLDER | -p] [-l LEVEL] "
			"-- CRIU dump ARG…\n");
		return 2;
	}
	bench = plain ? "criu" : folder ? "pipeline" : "drain";
	criu_own_mounts(run);
	if (!plain)
		fd = listen_at(images);
	begin = bench_now();
	if (folder) {
		open_outputs(folder, writers);
		for (unsigned i = 0; i < n; i++)
			if (pthread_create(&packers[i], NULL, pack, NULL))
				criu_die("thread", EAGAIN);
	}
	pid = criu_start(argv);
	if (!plain)
		drain(fd, folder);
	criu_end(pid);
	ended = bench_now();
	if (folder) {
		end_outputs();
		for (unsigned i = 0; i < n; i++)
			pthread_join(packers[i], NULL);
		for (int i = 0; i < 2; i++)
			pthread_join(writers[i], NULL);
	}
	bench_print(bench, "total", "ms", (double)(bench_now() - begin) / 1e6);
	bench_print(bench, "criu", "ms", (double)(ended - begin) / 1e6);
	bench_print(bench, "frozen", "ms", criu_frozen_us(images) / 1e3);
	bench_print(bench, "bytes_in", "bytes", (double)bytes_in);
	bench_print(bench, "bytes_out", "bytes", (double)(outputs[0].bytes + outputs[1].bytes));
	for (int i = 0; i < 2; i++)
		if (outputs[i].path[0])
			unlink(outputs[i].path);
	return 0;
}
