// Makes the page faster to use; everything works without it.
"use strict";

// --- Copying ---
for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Failed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// --- Search as you type: a form's part of the page is asked for anew whenever the form has changed ---
for (const form of document.querySelectorAll("form[data-live]")) {
  const target = form.dataset.live;
  let timer;
  let asked;
  const look = async () => {
    clearTimeout(timer);
    asked?.abort();
    asked = new AbortController();
    const said = [...new FormData(form)].filter(([, value]) => value !== "");
    const query = new URLSearchParams(said).toString();
    const url = form.getAttribute("action") + (query ? "?" + query : "");
    try {
      const answer = await fetch(url, { signal: asked.signal, headers: { accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(target);
      if (!found) throw new Error("no results");
      const place = document.querySelector(target);
      place.replaceChildren(...found.childNodes);
      for (const button of place.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
      history.replaceState(null, "", url);
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 180);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
}
// "/" leads to the search, as on most pages that have one.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, textarea")) return;
  const search = document.querySelector("input[type=search]");
  if (search) {
    event.preventDefault();
    search.focus();
  }
});

// --- The mesh: its parts come anew every two seconds, while somebody looks and until they pause it ---
const live = document.querySelector("[data-events]");
if (live && window.EventSource) {
  const button = document.querySelector("[data-pause]");
  let source;
  let isPaused = false;
  const show = (event) => {
    const found = new DOMParser().parseFromString(event.data, "text/html");
    for (const part of live.querySelectorAll("[data-part]")) {
      const now = found.getElementById(part.id);
      // What somebody is at by the keyboard stays, and what hasn't changed isn't read out again.
      if (!now || part.contains(document.activeElement) || part.innerHTML === now.innerHTML) continue;
      part.replaceChildren(...now.childNodes);
    }
  };
  const stop = () => {
    source?.close();
    source = undefined;
  };
  const follow = () => {
    stop();
    button.textContent = isPaused ? "Go on" : "Pause";
    if (isPaused || document.hidden) return;
    source = new EventSource(live.dataset.events);
    source.addEventListener("mesh", show);
    source.addEventListener("error", () => {
      // A stream that ends is asked for anew by itself; one that was refused isn't.
      if (source?.readyState !== EventSource.CLOSED) return;
      isPaused = true;
      follow();
    });
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  follow();
}
