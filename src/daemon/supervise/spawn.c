// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/supervise/supervise_private.h"

enum { CHECK_LOOK_MS = 20, EXIT_NO_PROGRAM = 127 };

enum status spawn_program_at(const char *path, int *program)
{
    *program = open(path, O_PATH | O_CLOEXEC);
    return *program >= 0 ? STATUS_OK : status_of_errno(errno);
}

enum status spawn_own_program(int *program)
{
    return spawn_program_at("/proc/self/exe", program);
}

// In the child. A group of its own: what a terminal sends is the parent's to pass on.
static void become(int program, char *const *argv)
{
    sigset_t none;
    sigemptyset(&none);
    (void)setpgid(0, 0);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)fexecve(program, argv, environ);
    _exit(EXIT_NO_PROGRAM);
}

enum status spawn_serving(int program, char *const *argv, int *channel, pid_t *pid)
{
    int ends[2];
    enum status status = channel_create(ends);
    if (status != STATUS_OK)
        return status;
    pid_t child = fork();
    if (child == 0) {
        char number[16];
        (void)snprintf(number, sizeof number, "%d", ends[1]);
        (void)fcntl(ends[1], F_SETFD, 0);
        (void)setenv(SUPERVISE_VARIABLE, number, 1);
        become(program, argv);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return STATUS_NO_MEMORY;
    }
    *channel = ends[0];
    *pid = child;
    return STATUS_OK;
}

int spawn_check(int program, char *const *argv, int limit_ms)
{
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        if (null >= 0) {
            (void)dup2(null, STDOUT_FILENO);
            (void)dup2(null, STDERR_FILENO);
        }
        become(program, argv);
    }
    int code = 0;
    for (int waited_ms = 0; child > 0; waited_ms += CHECK_LOOK_MS) {
        pid_t ended = waitpid(child, &code, WNOHANG);
        if (ended != 0)
            return ended == child && WIFEXITED(code) ? WEXITSTATUS(code) : -1;
        if (waited_ms >= limit_ms)
            (void)kill(child, SIGKILL);
        const struct timespec pause = {.tv_nsec = CHECK_LOOK_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    return -1;
}
