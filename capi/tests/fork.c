/* After a fork the child computes, whatever the threads of its parent were doing. */
#include "common.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 600, COLS = 512, CHILDREN = 20 };

static const dyt_device *device;
static float x[ROWS * COLS], first[ROWS * COLS];
static volatile int stop;

static int call(float *y) { return dyt_alone(device, x, y, ROWS, COLS); }

static int same(void) {
    static float y[ROWS * COLS];
    return call(y) == DYT_OK && memcmp(y, first, sizeof y) == 0;
}

static void *busy(void *unused) {
    float *y = memory(sizeof x);
    while (!stop) (void)call(y);
    free(y);
    return unused;
}

/* A child that computes, and whose own child does. */
static int child(int depth) {
    int status = 1;
    pid_t pid = fork();
    if (pid != 0) return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
    alarm(60);
    int right = same() && same();
    if (depth > 0) right = right && child(depth - 1);
    _exit(right ? 0 : 1);
}

int main(int argc, char **argv) {
    pthread_t thread;
    device = open_device(argc, argv);
    uint32_t seed = 1;
    for (size_t i = 0; i < ROWS * COLS; i++) x[i] = number(&seed);
    /* Before the first large call, after it, and while another thread makes some. */
    CHECK(setenv("RAYON_NUM_THREADS", "4", 1) == 0);
    OK(dyt_set_threads(device, 1));
    OK(call(first));
    OK(dyt_set_threads(device, 0));
    CHECK(child(1));
    CHECK(same());
    CHECK(child(1));
    CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
    for (int i = 0; i < CHILDREN; i++) CHECK(child(0));
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(same());
    printf("fork: %d failures\n", failures);
    return failures != 0;
}
