"""A radiologist's hands and eyes in the browser: open a study, load an object, scroll, look."""

import base64
import io
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests import peers

#: Software rendering: no machine of CI has a graphics card.
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: The smallest window that is usual at a desk.
WINDOW = {"width": 1366, "height": 768}
#: A page took up to a minute on a busy machine.
PATIENCE = 120.0

#: The viewer greets with a tour; and one of its libraries asks for a name that browsers lack, in
#: one of ten loads, upon which the page stays black.
_BEFORE = """
localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
globalThis.__filename = '/';
"""
#: The pane, and not what draws the small pictures of the list.
_VIEWPORT = (
    "window.services?.cornerstoneViewportService?.getCornerstoneViewport("
    "services.viewportGridService.getActiveViewportId())"
)
_SHOWN = f"""() => {{
  const viewport = {_VIEWPORT};
  return viewport && viewport.viewportStatus === 'rendered' ? viewport.getCurrentImageId() : '';
}}"""
#: Volumes count their slices the other way.
_JUMP = f"""([uid, again]) => {{
  const viewport = {_VIEWPORT};
  const ids = viewport?.getImageIds() ?? [];
  const index = ids.findIndex(each => each.includes(`/instances/${{uid}}/`));
  if (index < 0) return;
  if (viewport.type === 'stack' && again) viewport.setStack(ids, index);
  else if (viewport.type === 'stack') viewport.setImageIdIndex(index);
  else cornerstone.utilities.jumpToSlice(
    viewport.element, {{ imageIndex: ids.length - 1 - index }});
}}"""
_TAKEN = """() => {
  const { viewportGridService, displaySetService } = services;
  const { viewports, activeViewportId } = viewportGridService.getState();
  const shown = viewports.get(activeViewportId)?.displaySetInstanceUIDs ?? [];
  return shown.map(uid => displaySetService.getDisplaySetByUID(uid)?.SeriesDescription);
}"""
_LABELS = """() => {
  const canvas = document.querySelector('canvas.cornerstone-canvas');
  if (!canvas) return [];
  const place = canvas.getBoundingClientRect();
  return [...document.querySelectorAll('[data-cy="viewport-pane"] svg text tspan')].map(line => {
    const box = line.getBoundingClientRect();
    return [line.textContent, [
      box.left - place.left, box.top - place.top, box.right - place.left, box.bottom - place.top]];
  });
}"""
_CANVAS = "canvas.cornerstone-canvas"
_PANE = '[data-cy="viewport-pane"]'
_THUMBNAIL = '[data-cy^="study-browser-thumbnail"]'

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A line of words on the image."""

    words: str
    #: (left, top, right, bottom) in pixels of the image's place; what is beyond it is cut off.
    box: tuple[float, float, float, float]


@dataclass(kw_only=True)
class Viewer:
    """One page of the OHIF viewer, kept open: starting it takes longest."""

    page: object
    address: str
    study: str = ""

    def open(self, study_uid: str) -> None:
        """Open a study, unless it is open; returns when its first image is drawn."""
        if self.study == study_uid:
            return
        self.study = ""
        address = f"{self.address}/viewer?StudyInstanceUIDs={study_uid}"
        thumbnails = self.page.locator(_THUMBNAIL)
        for _ in range(3):
            self.page.goto(address)
            if self._soon(thumbnails.count, seconds=PATIENCE / 2) and self._soon(
                self.shown, seconds=PATIENCE / 4
            ):
                self.study = study_uid
                return
        raise TimeoutError(f"the viewer shows no image: {address}")

    def load(self, description: str) -> None:
        """Open a series by a double click; returns when the pane has taken it.

        The list is drawn anew whenever a picture of it arrives, and a click may fall between.
        """
        named = self.page.locator(_THUMBNAIL, has_text=re.compile(f"^.*{re.escape(description)}"))
        for _ in range(4):
            named.first.scroll_into_view_if_needed()
            named.first.dblclick()
            if self._soon(lambda: description in self.page.evaluate(_TAKEN), seconds=PATIENCE / 8):
                return
        raise TimeoutError(f"the pane does not take {description!r}: {self.page.url}")

    def answer(self, word: str, seconds: float = 60.0) -> None:
        """Answer a question of the viewer, waiting for it to be asked."""
        button = self.page.get_by_role("button", name=word, exact=True)
        button.wait_for(timeout=seconds * 1000)
        button.click()
        button.wait_for(state="detached", timeout=seconds * 1000)

    def shown(self) -> str:
        """Return what the pane shows: the address of its image, or nothing while it draws."""
        return str(self.page.evaluate(_SHOWN) or "")

    def go_to(self, sop_instance_uid: str) -> None:
        """Scroll to an image of the series that the pane shows."""
        wanted = f"/instances/{sop_instance_uid}/"
        # A pane that is still setting itself up goes back to its first image, or draws no more.
        for attempt in range(20):
            self.page.evaluate(_JUMP, [sop_instance_uid, attempt > 1])
            if self._soon(lambda: wanted in self.shown(), seconds=PATIENCE / 40):
                return
        raise TimeoutError(f"no scrolling to {sop_instance_uid}, but {self.shown()!r}")

    def notch(self) -> None:
        """Turn the wheel by one image and back: some drawings appear only then."""
        before = self.shown()
        box = self.page.locator(_PANE).first.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
        self.page.mouse.wheel(0, 100)
        self._until(lambda: self.shown() not in ("", before), "the wheel moves nothing")
        self.page.mouse.wheel(0, -100)
        self._until(lambda: self.shown() == before, "the wheel does not turn back")

    def look(self, meets: Callable[[Picture], bool] | None = None) -> Picture:
        """Return the image with all that is painted on it [row, column, 3], when it stands still.

        With ``meets``, look until that holds too; the last look is returned all the same, so
        that the caller says what is wrong with it.
        """
        deadline = time.monotonic() + PATIENCE / 4
        content = self._canvas()
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
            last, content = content, self._canvas()
            if last == content and (meets is None or meets(_decoded(content))):
                break
        return _decoded(content)

    def screen(self) -> Picture:
        """Return the pixels of the same place as they stand on the screen, with lines and words."""
        box = self.page.locator(_CANVAS).first.bounding_box()
        picture = Image.open(io.BytesIO(self.page.screenshot(clip=box)))
        return np.asarray(picture.convert("RGB"), np.uint8)

    def words_with(self, expected: str) -> str:
        """Return the text of the pane as soon as it holds what is expected, and at last anyhow."""
        pane = self.page.locator(_PANE).first
        self._soon(lambda: expected in pane.inner_text(), seconds=PATIENCE / 4)
        return str(pane.inner_text())

    def regions(self, description: str, image_uids: Collection[str]) -> list[Label]:
        """Open a document of regions and return what is written beside them, line by line.

        Now and then a region is drawn only when the wheel was turned, and of a single image, of
        which no wheel turns, when the document is opened once more.
        """
        wanted = [f"/instances/{uid}/" for uid in image_uids]
        for _ in range(4):
            self.load(description)
            self._until(lambda: any(uid in self.shown() for uid in wanted), "not the image")
            if self._soon(self.labels, seconds=PATIENCE / 40):
                break
            if self.page.evaluate(f"{_VIEWPORT}.getImageIds().length") > 1:
                self.notch()
            if self._soon(self.labels, seconds=PATIENCE / 24):
                break
        return self.labels()

    def wait_for_map(self) -> None:
        """Return when the pane shows a volume with a map over it."""
        layers = f"{_VIEWPORT}?.type === 'orthographic' && {_VIEWPORT}.getActors().length > 1"
        self._until(lambda: self.page.evaluate(layers), "no map lies over the image")
        loading = self.page.get_by_text("Loading Parametric Map")
        loading.wait_for(state="hidden", timeout=PATIENCE * 1000)
        self._until(self.shown, "the pane draws nothing")

    def labels(self) -> list[Label]:
        """Return what is written on the image, with the place of each."""
        lines = self.page.evaluate(_LABELS)
        return [Label(words=words, box=tuple(box)) for words, box in lines if words.strip()]

    def complaints(self) -> str:
        """Return what the viewer says went wrong; empty if nothing did."""
        said = self.page.get_by_text("Something went wrong")
        return str(said.first.text_content()) if said.count() else ""

    def save(self, path: Path) -> None:
        """Write a picture of the whole window, of at most 256 colors so that it stays small."""
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        few = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)

    def _canvas(self) -> bytes:
        content = self.page.evaluate(f"{_VIEWPORT}.canvas.toDataURL()")
        return base64.b64decode(content.partition(",")[2])

    def _until(self, condition: Callable[[], object], otherwise: str) -> None:
        if not self._soon(condition, seconds=PATIENCE):
            raise TimeoutError(f"{otherwise}: {self.page.url}")

    def _soon(self, condition: Callable[[], object], *, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.page.wait_for_timeout(50)
        return True


def _decoded(content: bytes) -> Picture:
    picture = Image.new("RGB", Image.open(io.BytesIO(content)).size)
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    picture.paste(image, mask=image.getchannel("A"))
    return np.asarray(picture, np.uint8)


@contextmanager
def viewer(address: str, profile: Path) -> Iterator[Viewer]:
    """Start Chromium with an empty profile; it ends with the block."""
    chromium = peers.require("/usr/bin/chromium", "install Debian's chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        peers.absent("playwright is not here: pip install 'pellucid[browser]'")
    with sync_playwright() as playwright:
        # A profile on disk keeps the compiled pages: the second study opens in half the time.
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium,
            args=FLAGS,
            headless=True,
            viewport=WINDOW,
            service_workers="block",
        )
        context.add_init_script(_BEFORE)
        try:
            yield Viewer(page=context.pages[0], address=address)
        finally:
            context.close()
