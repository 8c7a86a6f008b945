// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: standard streams and the terminal
 *
 * A stream that went outside is connected to what this request asks for. A terminal is a new one of
 * the host's: its slave takes the place of the old one in all of the container's processes, and over
 * /dev/console; its master is ours, as for any other task. checkpoint/tty_image.h says how
 * criu is made to take it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/ctty.h"
#include "checkpoint/tty_image.h"
#include "core/restore_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

static int open_pty(struct restore *r, const struct stdio *io, char *path, size_t size, int *slave,
		    struct fault *f)
{
	struct winsize ws = { .ws_col = io->width ? io->width : 80,
			      .ws_row = io->height ? io->height : 24 };
	int e;

	r->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (r->master < 0 || grantpt(r->master) < 0 || unlockpt(r->master) < 0)
		return fault_sys(f, errno, "open a terminal", "/dev/ptmx");
	e = ptsname_r(r->master, path, size);
	if (e)
		return fault_sys(f, e, "open a terminal", "/dev/ptmx");
	*slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return fault_sys(f, errno, "open the terminal", path);
	if (ioctl(r->master, TIOCSWINSZ, &ws) < 0)
		return fault_sys(f, errno, "set the size of", path);
	return 0;
}

/* Over /dev/console, where the checkpoint has something there. */
static int console(struct restore *r, const char *path, struct fault *f)
{
	const struct criu_mounts *all = &r->read.record.mounts;

	for (size_t i = 0; i < all->n; i++) {
		struct criu_source *grown;

		if (all->v[i].kind != CRIU_MOUNT_CONSOLE)
			continue;
		grown = reallocarray(r->sources, r->n_sources + 1, sizeof(*grown));
		if (!grown)
			return restore_no_memory(f);
		r->sources = grown;
		grown[r->n_sources].name = criu_mount_key(&all->v[i]);
		grown[r->n_sources].path = restore_text(r, "%s", path);
		if (!grown[r->n_sources++].path)
			return restore_no_memory(f);
	}
	return 0;
}

/* So that all of the init's session have it, not only the init. */
static int preload(struct restore *r, const char *tty, struct fault *f)
{
	const char *object = restore_text(r, "%s/ctty.so", r->run->dir);
	int e;

	if (!object)
		return restore_no_memory(f);
	if (strpbrk(object, " :")) /* which separate names in LD_PRELOAD */
		return 0;
	e = ctty_write(object, tty);
	if (e < 0)
		return fault_sys(f, -e, "write", object);
	if (!e)
		return 0;
	r->run->preload = restore_text(r, "LD_PRELOAD=%s", object);
	return r->run->preload ? 0 : restore_no_memory(f);
}

static int terminal(struct restore *r, const struct stdio *io, struct fault *f)
{
	const struct ckpt_record *k = &r->read.record;
	char path[64] = "/dev/null", *key;
	uint32_t sid;
	int slave = -1, e;

	if (!k->terminal || !*k->tty)
		return console(r, path, f);
	if (!io->terminal)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the checkpoint has a terminal; the container needs one too (terminal: true)");
	e = open_pty(r, io, path, sizeof(path), &slave, f);
	if (e < 0) {
		fd_close(&slave);
		return e;
	}
	key = restore_text(r, "tty[%s]", k->tty);
	if (restore_keep_fd(r, slave) < 0 || !key || restore_inherit(r, slave, key) < 0)
		return restore_no_memory(f);
	e = tty_image_hand_in(&r->read.files, k->tty, &sid, f);
	if (e > 0 && sid == 1)
		e = preload(r, path, f);
	if (e < 0)
		return e;
	return console(r, path, f);
}

int restore_stdio(struct restore *r, const struct restore_start *s, struct fault *f)
{
	const struct ckpt_record *k = &r->read.record;
	int e = terminal(r, s->io, f);

	for (int n = 0; !e && n < 3; n++) {
		int fd = s->io->terminal ? -1 : s->io->stream[n].child;

		if (!k->stdio[n] || !*k->stdio[n])
			continue;
		/* the stream is closed by its owner when the job is over: criu has its own copy then */
		fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
			     : open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return fault_sys(f, errno, "open a stream", "/dev/null");
		if (restore_keep_fd(r, fd) < 0 || restore_inherit(r, fd, k->stdio[n]) < 0)
			return restore_no_memory(f);
	}
	return e;
}
