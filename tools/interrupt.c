/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See interrupt.h. */
#define _GNU_SOURCE
#include "interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

static volatile sig_atomic_t interrupted; /* the signal to end */

static void interrupt(int number)
{
    interrupted = number;
}

void cli_catch_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    const struct sigaction stop = { .sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND };
    struct sigaction now;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (!sigaction(signals[i], NULL, &now) && now.sa_handler != SIG_IGN)
            sigaction(signals[i], &stop, NULL);
}

bool cli_interrupted(void)
{
    return interrupted != 0;
}

/* In short steps: the signal may be handled on any thread, which does not wake this one. */
bool cli_sleep(int64_t milliseconds)
{
    enum { STEP = 50 };
    while (milliseconds > 0 && !interrupted) {
        int64_t ms = milliseconds < STEP ? milliseconds : STEP;
        nanosleep(&(struct timespec) { .tv_nsec = ms * 1000000 }, NULL);
        milliseconds -= ms;
    }
    return !interrupted;
}

void cli_end_if_interrupted(void)
{
    const int number = interrupted;
    if (!number)
        return;
    signal(number, SIG_DFL);
    raise(number);
}
