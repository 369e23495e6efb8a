/* Any text as the agent's configuration file, and its values as the lists in
 * them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long n_good;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    struct options o;
    struct psc_error err;
    memset(&o, 0, sizeof(o));
    if (psc_config_defaults(agent_options, &o, &err) != PSC_OK) {
        abort();
    }
    if (psc_config_parse(agent_options, &o, text, "fuzz", &err) == PSC_OK) {
        /* Never read a file that the input names. */
        free(o.token_file);
        o.token_file = NULL;
        n_good += agent_options_check(&o, true, &err) == PSC_OK;
    }
    psc_config_fini(agent_options, &o);

    struct endpoint list[OPTIONS_MAX_COLLECTORS];
    unsigned count;
    n_good += agent_options_endpoints(text, list, OPTIONS_MAX_COLLECTORS,
                                      &count, &err) == PSC_OK;
    struct psc_buf labels;
    psc_buf_init(&labels, 4096);
    n_good += agent_options_labels(text, &labels, &err) == PSC_OK;
    psc_buf_fini(&labels);
    free(text);
    return 0;
}
