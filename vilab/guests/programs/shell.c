/* The shell: reads a line, starts the program, waits for it. Line editing is its own: the kernel hands out bytes. */

#include "library.h"

enum { LINE = 128, WORDS = 8, NAME = 16, BACKSPACE = 8, DELETE = 127 };

/* One line into text, without its end; echoes what it takes. */
static void read_line(char *text)
{
    static char last;
    u32 length = 0;
    for (;;) {
        char c;
        read(&c, 1);
        char before = last;
        last = c;
        if (c == '\n' && before == '\r')
            continue;                           /* CR LF ends one line, not two */
        if (c == '\r' || c == '\n') {
            write("\n", 1);
            text[length] = 0;
            return;
        }
        if ((c == BACKSPACE || c == DELETE) && length) {
            length--;
            write("\b \b", 3);
        } else if (c >= ' ' && c < DELETE && length < LINE - 1) {
            text[length++] = c;
            write(&c, 1);
        }
    }
}

static int split(char *text, char **words)
{
    int count = 0;
    while (count < WORDS) {
        while (*text == ' ')
            text++;
        if (!*text)
            break;
        words[count++] = text;
        while (*text && *text != ' ')
            text++;
        if (*text)
            *text++ = 0;
    }
    words[count] = 0;
    return count;
}

static void help(void)
{
    char name[NAME];
    print("built in: help, exit, poweroff\nprograms:");
    for (u32 i = 0; program(i, name, sizeof name) > 0; i++)
        print(" %s", name);
    print("\n");
}

static void run(char **words)
{
    int pid = fork();
    if (pid < 0) {
        print("shell: cannot fork\n");
        return;
    }
    if (pid == 0) {
        exec(words);
        print("shell: no program named %s; try help\n", words[0]);
        exit(127);
    }
    int status;
    while (wait(&status) != pid)
        ;
    if (status)
        print("shell: %s ended with status %d\n", words[0], status);
}

int main(void)
{
    static char text[LINE];
    char *words[WORDS + 1];
    for (;;) {
        print("shell> ");
        read_line(text);
        if (!split(text, words))
            continue;
        if (streq(words[0], "help"))
            help();
        else if (streq(words[0], "exit"))
            return 0;
        else if (streq(words[0], "poweroff"))
            poweroff();
        else
            run(words);
    }
}
