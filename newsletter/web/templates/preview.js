// Looks whether a file has changed, and shows the issue anew if so.
const shown = document.documentElement.dataset.version;
setInterval(async () => {
  try {
    const answer = await fetch("/version");
    if (answer.ok && (await answer.text()) !== shown) location.reload();
  } catch {
    // The command has ended; it may be started again.
  }
}, 700);
