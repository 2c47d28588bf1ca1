/* Large calls run with the threads that the system grants, and with more when it grants more. */
#define _DEFAULT_SOURCE
#include "common.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 600, COLS = 512, WANTED = 4 };

static int threads(void) {
    char line[256];
    int n = -1;
    FILE *status = fopen("/proc/self/status", "r");
    if (status == NULL) return n;
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "Threads: %d", &n) != 1) n = -1;
    fclose(status);
    return n;
}

static void call(const dyt_device *device) {
    static float x[ROWS * COLS], y[ROWS * COLS];
    x[ROWS * COLS - 1] = 1.0f;
    y[ROWS * COLS - 1] = 0.0f;
    OK(dyt_alone(device, x, y, ROWS, COLS));
    CHECK(fabsf(y[ROWS * COLS - 1] - tanhf(0.5f)) < 1e-6f);
}

int main(int argc, char **argv) {
    CHECK(setenv("RAYON_NUM_THREADS", "4", 1) == 0);
    /* The limit does not hold for root. */
    if (geteuid() == 0) CHECK(setuid(65534) == 0);
    struct rlimit before, limit;
    CHECK(getrlimit(RLIMIT_NPROC, &before) == 0);
    limit = before;
    limit.rlim_cur = 1;
    CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
    dyt_device *device = open_device(argc, argv);
    OK(dyt_set_threads(device, 1));
    call(device);
    CHECK(threads() == 1);
    OK(dyt_set_threads(device, 0));
    call(device);
    CHECK(threads() == 1);
    CHECK(setrlimit(RLIMIT_NPROC, &before) == 0);
    /* The library asks again after a while. */
    for (int i = 0; i < 100 && threads() < WANTED; i++) {
        struct timespec pause = {0, 20 * 1000 * 1000};
        nanosleep(&pause, NULL);
        call(device);
    }
    CHECK(threads() == WANTED);
    dyt_device_close(device);
    printf("limit: %d threads in the end, %d failures\n", threads(), failures);
    return failures != 0;
}
