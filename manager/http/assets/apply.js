// The page that applies a Compose file: takes files that are dropped or chosen, numbers the lines, leads from an error to its
// place, and lets nobody apply a text that is not the one that was planned. The server checks that too.

/** Largest file that is taken, bytes; the server refuses more. */
const MOST_BYTES = 1 << 20;

class ApplyPage {
  constructor(form) {
    this.form = form;
    this.text = form.querySelector('[data-apply-text]');
    this.numbers = form.querySelector('[data-apply-numbers]');
    this.note = form.querySelector('[data-apply-note]');
    this.file = form.querySelector('[data-apply-file]');
    this.text.addEventListener('input', () => this.number());
    this.text.addEventListener('scroll', () => this.align(), { passive: true });
    form.addEventListener('input', () => this.outdate());
    this.file.addEventListener('change', () => this.take(this.file.files[0]));
    this.file.closest('[hidden]')?.removeAttribute('hidden');
    form.addEventListener('dragover', (event) => this.over(event));
    form.addEventListener('dragleave', () => form.classList.remove('apply-over'));
    form.addEventListener('drop', (event) => this.drop(event));
    document.addEventListener('click', (event) => {
      const place = event.target.closest('[data-apply-line]');
      if (place === null) return;
      event.preventDefault();
      this.goTo(Number(place.dataset.applyLine), Number(place.dataset.applyColumn));
    });
    this.number();
  }

  over(event) {
    if (!event.dataTransfer.types.includes('Files')) return;
    event.preventDefault();
    this.form.classList.add('apply-over');
  }

  drop(event) {
    this.form.classList.remove('apply-over');
    const [file] = event.dataTransfer.files;
    // Text that is dragged here goes where it is dropped.
    if (file === undefined) return;
    event.preventDefault();
    this.take(file);
  }

  /** Reads the file here: it is sent only when somebody asks for the plan. */
  async take(file) {
    if (file === undefined) return;
    if (file.size > MOST_BYTES) {
      this.note.textContent = `${file.name} has more than ${MOST_BYTES >> 10} KiB: that is no Compose file`;
      return;
    }
    try {
      this.text.value = await file.text();
      this.note.textContent = `${file.name} was read`;
    } catch (error) {
      this.note.textContent = `${file.name} cannot be read: ${error.message}`;
      return;
    }
    this.file.value = '';
    this.number();
    this.outdate();
  }

  number() {
    const lines = this.text.value.split('\n').length;
    this.numbers.textContent = Array.from({ length: lines }, (_, index) => index + 1).join('\n');
    this.align();
  }

  align() {
    this.numbers.scrollTop = this.text.scrollTop;
  }

  /** What is shown was planned from another text. */
  outdate() {
    document.querySelectorAll('[data-apply-go]').forEach((button) => {
      button.disabled = true;
    });
    document.querySelectorAll('[data-apply-old]').forEach((note) => {
      note.hidden = false;
    });
  }

  goTo(line, column) {
    const lines = this.text.value.split('\n');
    const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    // Columns count characters, places in a text area count UTF-16 units.
    const before = Array.from(lines[line - 1] ?? '').slice(0, column - 1).join('').length;
    this.text.focus();
    this.text.setSelectionRange(start + before, start + (lines[line - 1] ?? '').length);
    const height = this.text.scrollHeight / lines.length;
    this.text.scrollTop = Math.max(0, (line - 1) * height - this.text.clientHeight / 2);
  }
}

document.querySelectorAll('[data-apply]').forEach((form) => new ApplyPage(form));
