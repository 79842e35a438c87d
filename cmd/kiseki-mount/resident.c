/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resident.c: the code of a mount stays in memory. The kernel gives up pages of files that nobody maps when others read much, the code for requests that have not come yet
 * among them; the first of its kind would then wait for a dozen reads of the disk. What is mapped is the last to go.
 */
#include "mount.h"
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

/* This program, and the libraries that most of a request is spent in. */
static bool serves(const char *name)
{
	return !*name || strstr(name, "/libsqlite3.") || strstr(name, "/libfuse3.");
}

static int populate(struct dl_phdr_info *i, size_t size, void *unused)
{
	(void)size;
	(void)unused;
	for (int k = 0; serves(i->dlpi_name) && k < i->dlpi_phnum; k++) {
		const ElfW(Phdr) *h = &i->dlpi_phdr[k];
		uintptr_t from = (i->dlpi_addr + h->p_vaddr) & ~(uintptr_t)4095;

		/* A hint: without it they come when they are needed. */
		if (h->p_type == PT_LOAD && !(h->p_flags & PF_W))
			KS_IGNORE(madvise((void *)from, // NOLINT(performance-no-int-to-ptr)
					  i->dlpi_addr + h->p_vaddr + h->p_filesz - from,
					  MADV_POPULATE_READ) < 0);
	}
	return 0;
}

void mount_stay_resident(void)
{
	dl_iterate_phdr(populate, NULL);
}
