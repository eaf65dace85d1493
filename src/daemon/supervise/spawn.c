// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/supervise/supervise_private.h"

enum { EXIT_NO_PROGRAM = 127 };

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

enum status spawn_check(int program, char *const *argv, pid_t *pid)
{
    *pid = fork();
    if (*pid == 0) {
        int null = open("/dev/null", O_RDWR);
        if (null >= 0) {
            (void)dup2(null, STDOUT_FILENO);
            (void)dup2(null, STDERR_FILENO);
        }
        become(program, argv);
    }
    return *pid > 0 ? STATUS_OK : STATUS_NO_MEMORY;
}
