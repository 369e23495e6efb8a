/* The sources of a Linux agent; sources_linux.c lists them. */
#ifndef PSC_AGENT_SOURCES_LINUX_H
#define PSC_AGENT_SOURCES_LINUX_H

#include "agent/source.h"

extern const struct source source_slabinfo;
extern const struct source source_vmallocinfo;
extern const struct source source_allocinfo;
extern const struct source source_pages;
extern const struct source source_memory;
extern const struct source source_processes;
extern const struct source source_cgroups;
extern const struct source source_modules;
extern const struct source source_slab_aliases;
extern const struct source source_kernel_log;

#endif
