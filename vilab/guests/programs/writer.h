/* Memory that is written all the time, and of which every word is known.

   Writes to a page are numbered. Number n goes to word n % WORDS and is made of seed, page and n, so that after g writes

        word      0      1      2    ...    g % WORDS - 1   g % WORDS      ...    WORDS - 1
        holds     the last WORDS numbers:   g - 1           g - WORDS             ...
                                            newest          oldest, and the next to go

   Filling a page is its writes -WORDS .. -1. How many writes a page has had stands elsewhere: a page that is as it was
   a while ago is as wrong as one with a wrong byte. One page of these counts belongs to 1024 pages. */

#ifndef WRITER_H
#define WRITER_H

#include "pattern.h"

enum { COMPLAINTS = 8, SLICES = 16, MOST_PAGES = USER_LAST / PAGE_BYTES / 2 };

struct written {
    const char *name;
    u32 *memory, *count;                                /* count[page] */
    u32 pages, seed, total, wrong, next_slice;
};

static inline u32 written_value(const struct written *w, u32 page, u32 n)
{
    return (w->seed << 20 ^ page) * 2654435761u + n * 2246822519u;
}

static inline void complain(struct written *w, u32 page, u32 word, u32 expected)
{
    if (w->wrong++ < COMPLAINTS)
        print("%s: page %u word %u holds %x, not %x\n", w->name, page, word, w->memory[page * WORDS + word], expected);
}

static inline void written_check(struct written *w, u32 page, u32 n)
{
    u32 expected = written_value(w, page, n);
    if (w->memory[page * WORDS + n % WORDS] != expected)
        complain(w, page, n % WORDS, expected);
}

/* One store into the page, after a look at what it replaces. */
static inline void write_page(struct written *w, u32 page)
{
    u32 n = w->count[page];
    written_check(w, page, n - WORDS);
    w->memory[page * WORDS + n % WORDS] = written_value(w, page, n);
    w->count[page] = n + 1;
    w->total++;
}

/* All words of pages from .. end - 1. */
static inline void check_pages(struct written *w, u32 from, u32 end)
{
    for (u32 page = from; page < end; page++)
        for (u32 back = 1; back <= WORDS; back++)
            written_check(w, page, w->count[page] - back);
}

/* Another sixteenth of the pages, and that the counts add up. */
static inline void check_slice(struct written *w)
{
    u32 slice = w->next_slice++ % SLICES, total = 0;
    check_pages(w, w->pages * slice / SLICES, w->pages * (slice + 1) / SLICES);
    for (u32 page = 0; page < w->pages; page++)
        total += w->count[page];
    if (total != w->total && w->wrong++ < COMPLAINTS)
        print("%s: pages count %u writes, not %u\n", w->name, total, w->total);
}

static inline const char *verdict(const struct written *w) { return w->wrong ? "wrong" : "ok"; }

/* Fills the pages; 0 if there is no room for them. */
static inline int written_start(struct written *w, const char *name, u32 pages, u32 seed)
{
    *w = (struct written){ .name = name, .pages = pages, .seed = seed };
    if (pages && pages <= MOST_PAGES) {
        w->memory = sbrk(pages * PAGE_BYTES);
        w->count = sbrk(pages * sizeof *w->count);
    }
    if (!w->memory || w->memory == NO_MEMORY || w->count == NO_MEMORY) {
        print("%s: no room for %u pages\n", name, pages);
        return 0;
    }
    for (u32 page = 0; page < pages; page++)
        for (u32 word = 0; word < WORDS; word++)
            w->memory[page * WORDS + word] = written_value(w, page, word - WORDS);
    return 1;
}

/* Checks everything once more; the status to end with. The checksum: FNV-1a, words instead of bytes, turned. */
static inline int written_end(struct written *w)
{
    u32 sum = 2166136261u;
    check_pages(w, 0, w->pages);
    for (u32 i = 0; i < w->pages * WORDS; i++)
        sum = ((sum << 5 | sum >> 27) ^ w->memory[i]) * 16777619u;
    print("%s: %u writes, checksum %x, all %s\n", w->name, w->total, sum, verdict(w));
    return w->wrong != 0;
}

#endif
