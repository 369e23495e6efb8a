/* Runs a fuzz target over the files of the folders named on the command line:
 * what libFuzzer once found stays tested in every preset, without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX_BYTES = 1 << 20 };

static uint8_t input[INPUT_MAX_BYTES];

static int run_file(const char *folder, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    size_t n = fread(input, 1, sizeof(input), f);
    (void)fclose(f);
    (void)LLVMFuzzerTestOneInput(input, n);
    return 0;
}

static int run_folder(const char *folder, unsigned *n_files)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        perror(folder);
        return 1;
    }
    int failed = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            failed |= run_file(folder, e->d_name);
            (*n_files)++;
        }
    }
    (void)closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    unsigned n_files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= run_folder(argv[i], &n_files);
    }
    printf("%u inputs replayed\n", n_files);
    return failed != 0 || n_files == 0;
}
