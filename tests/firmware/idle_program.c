/* The order of forecasts and of work in idle time: LIBRARY BUNDLE. There is always more work; while some of it is being done,
 * a forecast of one or of two channels becomes due. Prints, for each forecast, how many pieces began since it was due. */
#define _POSIX_C_SOURCE 200809L
#include "service.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define FORECASTS 40
#define EVERY 3 /* pieces between two values */

static sv_service *service; /* `lock` guards it until it is set */
static unsigned pieces, due_at, forecasts, waits;
static int64_t step;
static bool all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;

static bool idle(void *user)
{
    (void)user;
    pthread_mutex_lock(&lock);
    bool started = service != NULL;
    pthread_mutex_unlock(&lock);
    if (!started) return true;
    pieces++;
    if (pieces % EVERY == 0 && forecasts < FORECASTS) { /* in the middle of a piece */
        due_at = pieces;
        for (uint32_t channel = 0; channel < 2; channel++) sv_push(service, channel, step * 1000, (float)(step % 7), SV_GOOD);
        if (step++ > 0) waits += 2;
    }
    return true;
}

static void made(void *user, const sv_forecast *forecast)
{
    (void)user;
    printf("%u %u %d\n", (unsigned)forecast->channel, pieces - due_at, (int)forecast->err);
    waits--;
    if (++forecasts < FORECASTS) return;
    pthread_mutex_lock(&lock);
    all = true;
    pthread_cond_signal(&done);
    pthread_mutex_unlock(&lock);
}

static void alive(void *user) { (void)user; }

int main(int argc, char **argv)
{
    fc_base *base;
    fc_message message;
    fc_settings settings = {.library = argv[1], .threads = 1};
    sv_settings how = {.channels = 2, .interval_ms = 1000, .alive_ms = 1000, .on_forecast = made, .on_alive = alive, .on_idle = idle};
    if (argc != 3 || fc_base_open(argv[2], &settings, &base, message) != ETSA_OK) return 2;
    sv_service *started;
    if (sv_start(base, &how, &started, message) != ETSA_OK) return 3;
    pthread_mutex_lock(&lock);
    service = started;
    while (!all) pthread_cond_wait(&done, &lock);
    pthread_mutex_unlock(&lock);
    sv_stop(started);
    fc_base_close(base);
    return waits == 0 ? 0 : 4;
}
