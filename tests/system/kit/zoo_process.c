// SPDX-License-Identifier: Apache-2.0
/*
 * The zoo: processes, threads, timers, signals, and what /proc says of a process
 */
#include "zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- sessions, groups, zombies */

struct link { /* to a child: a byte asks, an answer comes back */
	int ask[2], answer[2];
	pid_t pid;
};

struct told {
	pid_t pid, ppid, pgid, sid, tid;
};

static void serve(struct link *l)
{
	char c;

	close(l->ask[1]);
	close(l->answer[0]);
	while (read(l->ask[0], &c, 1) == 1) {
		struct told t = { getpid(), getppid(), getpgid(0), getsid(0),
				  (pid_t)syscall(SYS_gettid) };

		if (write(l->answer[1], &t, sizeof(t)) != sizeof(t))
			_exit(4);
	}
	_exit(0);
}

static struct told ask(struct link *l)
{
	struct told t = { 0 };

	must(write(l->ask[1], "?", 1) == 1);
	must(read(l->answer[0], &t, sizeof(t)) == sizeof(t));
	return t;
}

void zoo_tree(void)
{
	enum { SESSION, GROUP, GRANDCHILD, N };
	struct link links[N];
	struct told before[N];
	pid_t zombie;
	int status;

	for (int i = 0; i < N; i++) {
		struct link *l = &links[i];

		must(!pipe(l->ask) && !pipe(l->answer));
		l->pid = fork();
		must(l->pid >= 0);
		if (!l->pid) {
			for (int k = 0; k < i; k++)
				close(links[k].ask[1]);
			if (i == SESSION)
				setsid();
			if (i == GROUP)
				setpgid(0, 0);
			if (i == GRANDCHILD) {
				pid_t pid = fork();

				if (pid) {
					close(l->ask[1]);
					waitpid(pid, &status, 0);
					_exit(0);
				}
			}
			serve(l);
		}
		close(l->ask[0]);
		close(l->answer[1]);
		before[i] = ask(l);
	}
	must(before[SESSION].sid == links[SESSION].pid);
	must(before[GROUP].pgid == links[GROUP].pid && before[GROUP].sid == getsid(0));
	zombie = fork();
	must(zombie >= 0);
	if (!zombie)
		_exit(7);
	siginfo_t info;
	must(!waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT));

	ready_and_wait();
	for (int i = 0; i < N; i++) {
		struct told now = ask(&links[i]);

		if (memcmp(&now, &before[i], sizeof(now)) != 0)
			lost("child %d: pid %d/%d ppid %d/%d group %d/%d session %d/%d", i,
			     before[i].pid, now.pid, before[i].ppid, now.ppid, before[i].pgid,
			     now.pgid, before[i].sid, now.sid);
	}
	if (waitpid(zombie, &status, WNOHANG) != zombie || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 7)
		lost("the zombie");
	for (int i = 0; i < N; i++) {
		close(links[i].ask[1]);
		if (waitpid(links[i].pid, &status, 0) != links[i].pid || status)
			lost("the end of child %d", i);
	}
}

/* ---- threads */

#define THREADS 8
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool wake;
static int waiting, good;
static _Thread_local long mine;

static void *thread_main(void *arg)
{
	long n = (long)arg;
	char name[16], now[16] = "";
	sigset_t set, then;
	pid_t tid = (pid_t)syscall(SYS_gettid);

	mine = n * 1000003;
	snprintf(name, sizeof(name), "thread%ld", n);
	pthread_setname_np(pthread_self(), name);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + (int)n);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_mutex_lock(&lock);
	waiting++;
	pthread_cond_broadcast(&cond);
	while (!wake)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	pthread_getname_np(pthread_self(), now, sizeof(now));
	pthread_sigmask(0, NULL, &then);
	if (mine == n * 1000003 && !strcmp(now, name) && sigismember(&then, SIGRTMIN + (int)n) &&
	    tid == syscall(SYS_gettid))
		__atomic_fetch_add(&good, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

void zoo_threads(void)
{
	pthread_t threads[THREADS];

	for (long i = 0; i < THREADS; i++)
		must(!pthread_create(&threads[i], NULL, thread_main, (void *)i));
	pthread_mutex_lock(&lock);
	while (waiting < THREADS)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);

	ready_and_wait();
	pthread_mutex_lock(&lock);
	wake = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < THREADS; i++)
		must(!pthread_join(threads[i], NULL));
	if (good != THREADS)
		lost("%d of %d threads are as they were", good, THREADS);
}

/* ---- timers */

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

static bool hour(long seconds)
{
	return seconds > 3600 - 600 && seconds <= 3600;
}

void zoo_timers(void)
{
	struct itimerspec far = { .it_value = { 3600, 0 }, .it_interval = { 7, 0 } };
	struct itimerspec soon = { .it_value = { 0, 1000000 } }, spec;
	struct itimerval real = { .it_value = { 3600, 0 }, .it_interval = { 9, 0 } }, val;
	struct itimerval virt = { .it_value = { 3600, 0 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL,
				  .sigev_signo = SIGRTMIN + 3,
				  .sigev_value.sival_int = 77 };
	int fd = timerfd_create(CLOCK_MONOTONIC, 0), expired = timerfd_create(CLOCK_REALTIME, 0);
	timer_t timer;
	uint64_t ticks;

	must(fd >= 0 && expired >= 0);
	must(!timerfd_settime(fd, 0, &far, NULL));
	must(!timerfd_settime(expired, 0, &soon, NULL));
	must(!setitimer(ITIMER_REAL, &real, NULL));
	must(!setitimer(ITIMER_VIRTUAL, &virt, NULL));
	must(!timer_create(CLOCK_MONOTONIC, &event, &timer));
	must(!timer_settime(timer, 0, &far, NULL));
	signal(SIGALRM, on_alarm);
	usleep(20000); /* `expired` has */

	ready_and_wait();
	must(!timerfd_gettime(fd, &spec));
	if (!hour(spec.it_value.tv_sec) || spec.it_interval.tv_sec != 7)
		lost("timerfd: %ld s are left", (long)spec.it_value.tv_sec);
	must(!fcntl(expired, F_SETFL, O_NONBLOCK));
	if (read(expired, &ticks, sizeof(ticks)) != sizeof(ticks) || ticks != 1)
		lost("a timerfd that had expired");
	must(!getitimer(ITIMER_REAL, &val));
	if (!hour(val.it_value.tv_sec) || val.it_interval.tv_sec != 9)
		lost("ITIMER_REAL: %ld s are left", (long)val.it_value.tv_sec);
	must(!getitimer(ITIMER_VIRTUAL, &val));
	if (!hour(val.it_value.tv_sec))
		lost("ITIMER_VIRTUAL: %ld s are left", (long)val.it_value.tv_sec);
	must(!timer_gettime(timer, &spec));
	if (!hour(spec.it_value.tv_sec) || spec.it_interval.tv_sec != 7)
		lost("timer_create: %ld s are left", (long)spec.it_value.tv_sec);
	real = (struct itimerval){ .it_value = { 0, 2000 } };
	must(!setitimer(ITIMER_REAL, &real, NULL));
	for (int i = 0; i < 5000 && !alarms; i++)
		usleep(1000);
	if (!alarms)
		lost("SIGALRM does not come any more");
}

/* ---- signals */

static volatile sig_atomic_t handled, handled_on_stack;
static char *stack_at;
#define STACK 65536

static void on_signal(int sig, siginfo_t *info, void *context)
{
	char here;

	(void)sig;
	(void)context;
	handled = info->si_value.sival_int;
	handled_on_stack = &here > stack_at && &here < stack_at + STACK;
}

void zoo_signals(void)
{
	struct sigaction act = { .sa_sigaction = on_signal,
				 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART },
			 now;
	stack_t stack = { .ss_size = STACK };
	struct signalfd_siginfo got;
	sigset_t set, pending;
	int fd;

	stack.ss_sp = stack_at = malloc(STACK);
	must(stack_at && !sigaltstack(&stack, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 1);
	must(!sigprocmask(SIG_BLOCK, &set, NULL));
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	must(fd >= 0);
	sigaddset(&act.sa_mask, SIGHUP);
	must(!sigaction(SIGRTMIN + 2, &act, NULL));
	signal(SIGPIPE, SIG_IGN);
	must(!kill(getpid(), SIGUSR2));
	for (int i = 1; i <= 3; i++)
		must(!sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = i * 11 }));

	ready_and_wait();
	sigpending(&pending);
	if (!sigismember(&pending, SIGUSR2) || !sigismember(&pending, SIGRTMIN + 1))
		lost("pending signals");
	if (read(fd, &got, sizeof(got)) != sizeof(got) || got.ssi_signo != SIGUSR2)
		lost("SIGUSR2 by signalfd");
	for (int i = 1; i <= 3; i++)
		if (read(fd, &got, sizeof(got)) != sizeof(got) || got.ssi_int != i * 11)
			lost("queued signal %d: %d", i, got.ssi_int);
	if (read(fd, &got, sizeof(got)) != -1 || errno != EAGAIN)
		lost("a signal came twice");
	must(!sigaction(SIGRTMIN + 2, NULL, &now));
	if (now.sa_sigaction != on_signal || !(now.sa_flags & SA_ONSTACK) ||
	    !sigismember(&now.sa_mask, SIGHUP))
		lost("a handler");
	must(!sigaction(SIGPIPE, NULL, &now));
	if (now.sa_handler != SIG_IGN)
		lost("an ignored signal");
	must(!sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ .sival_int = 5 }));
	if (handled != 5 || !handled_on_stack)
		lost("a handler on its own stack");
}

/* ---- what /proc says */

static char *slurp(const char *path)
{
	char *text = calloc(1, 65536);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 0, got;

	must(text && fd >= 0);
	while ((got = read(fd, text + n, (size_t)(65535 - n))) > 0)
		n += got;
	close(fd);
	for (ssize_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = '|';
	return text;
}

/* Lines of /proc/self/status that may not change. */
static const char *const fields[] = {
	"Name:",    "Umask:",  "Tgid:",	  "Pid:",     "PPid:",	     "Uid:",
	"Gid:",	    "Groups:", "NStgid:", "NSpid:",   "NSpgid:",     "NSsid:",
	"Threads:", "SigBlk:", "SigIgn:", "SigCgt:",  "CapInh:",     "CapPrm:",
	"CapEff:",  "CapBnd:", "CapAmb:", "Seccomp:", "NoNewPrivs:", "THP_enabled:"
};

static void line_of(const char *text, const char *field, char *to, size_t size)
{
	const char *p = strstr(text, field);

	snprintf(to, size, "%.*s", p ? (int)strcspn(p, "\n") : 0, p ? p : "");
}

void zoo_status(void)
{
	static const char *const files[] = { "/proc/self/limits",	 "/proc/self/environ",
					     "/proc/self/cmdline",	 "/proc/self/oom_score_adj",
					     "/proc/self/personality",	 "/proc/self/auxv",
					     "/proc/self/loginuid",	 "/proc/self/uid_map",
					     "/proc/sys/kernel/hostname" };
	enum { N = sizeof(files) / sizeof(files[0]) };
	char *before[N], *status, cwd[4096], now[4096], exe[4096], link[4096] = "";
	struct stat root, dot, st;
	int nice_before, nnp, keep, sub;

	must(!chdir("/tmp"));
	umask(0027);
	errno = 0;
	must(setpriority(PRIO_PROCESS, 0, 5) == 0);
	must(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	must(!prctl(PR_SET_DUMPABLE, 0));
	must(!prctl(PR_SET_DUMPABLE, 1));
	must(!prctl(PR_SET_NAME, "a name"));
	for (int i = 0; i < N; i++)
		before[i] = access(files[i], R_OK) == 0 ? slurp(files[i]) : NULL;
	status = slurp("/proc/self/status");
	nice_before = getpriority(PRIO_PROCESS, 0);
	must(getcwd(cwd, sizeof(cwd)) && !stat("/", &root) && !stat(".", &dot));
	memset(exe, 0, sizeof(exe));
	must(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	nnp = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	keep = prctl(PR_GET_DUMPABLE);

	ready_and_wait();
	for (int i = 0; i < N; i++) {
		char *text = before[i] ? slurp(files[i]) : NULL;

		if (text && strcmp(text, before[i]) != 0)
			lost("%s: %s -> %s", files[i], before[i], text);
	}
	char *then = slurp("/proc/self/status");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		char a[512], b[512];

		line_of(status, fields[i], a, sizeof(a));
		line_of(then, fields[i], b, sizeof(b));
		if (strcmp(a, b) != 0)
			lost("status: %s -> %s", a, b);
	}
	if (getpriority(PRIO_PROCESS, 0) != nice_before)
		lost("nice");
	must(getcwd(now, sizeof(now)));
	if (strcmp(now, cwd) != 0)
		lost("cwd: %s -> %s", cwd, now);
	must(!stat(".", &st));
	if (st.st_ino != dot.st_ino)
		lost("the folder");
	must(readlink("/proc/self/exe", link, sizeof(link) - 1) > 0);
	if (strcmp(exe, link) != 0)
		lost("exe: %s -> %s", exe, link);
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != nnp || prctl(PR_GET_DUMPABLE) != keep)
		lost("no_new_privs or dumpable");
	must(!prctl(PR_GET_CHILD_SUBREAPER, &sub));
	if (!sub)
		lost("subreaper");
}

/* A process with ids, groups and capabilities of its own making. */
void zoo_ids(void)
{
	gid_t groups[] = { 11, 22, 33 }, now[8];
	uid_t r, e, s;
	gid_t gr, ge, gs;

	must(!syscall(SYS_setgroups, 3, groups));
	must(!setresgid(1001, 1002, 1003) && !setresuid(2001, 2002, 2003));

	ready_and_wait();
	must(!getresuid(&r, &e, &s) && !getresgid(&gr, &ge, &gs));
	if (r != 2001 || e != 2002 || s != 2003 || gr != 1001 || ge != 1002 || gs != 1003)
		lost("uid %d %d %d, gid %d %d %d", r, e, s, gr, ge, gs);
	if (getgroups(8, now) != 3 || memcmp(now, groups, sizeof(groups)) != 0)
		lost("groups");
}

/* A filter of its own: getppid fails with 1234. */
void zoo_seccomp(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1234),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
	must(syscall(SYS_getppid) == -1 && errno == 1234);

	ready_and_wait();
	errno = 0;
	if (syscall(SYS_getppid) != -1 || errno != 1234)
		lost("the filter");
}

/* CLOCK_MONOTONIC goes on, never back. */
void zoo_times(void)
{
	struct timespec before, now, boot, then;

	must(!clock_gettime(CLOCK_MONOTONIC, &before) && !clock_gettime(CLOCK_BOOTTIME, &boot));
	ready_and_wait();
	must(!clock_gettime(CLOCK_MONOTONIC, &now) && !clock_gettime(CLOCK_BOOTTIME, &then));
	if (now.tv_sec < before.tv_sec || now.tv_sec > before.tv_sec + 1000)
		lost("CLOCK_MONOTONIC: %ld -> %ld", (long)before.tv_sec, (long)now.tv_sec);
	if (then.tv_sec < boot.tv_sec || then.tv_sec > boot.tv_sec + 1000)
		lost("CLOCK_BOOTTIME: %ld -> %ld", (long)boot.tv_sec, (long)then.tv_sec);
}

void zoo_pidfd(void)
{
	pid_t pid = fork();
	siginfo_t info;
	int fd;

	must(pid >= 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	must(fd >= 0);
	ready_and_wait();
	if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) != 0)
		lost("a signal by pidfd: errno %d", errno);
	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED) != 0 || info.si_status != SIGTERM)
		lost("a wait by pidfd");
}
